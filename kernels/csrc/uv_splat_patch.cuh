// UV splatting on CUDA: how a group of lanes adds up one patch. See uv_splat_cuda.cu.

#pragma once

#include "uv_splat.cuh"

namespace omega {

constexpr int kPatch = 4;                  // texels along the side of a group's patch
constexpr int kCells = kPatch + 1;         // cells along that side
constexpr int kNowhere = kPatch * kPatch;  // the slot for corners that belong to another patch
constexpr int kRuns = 128;                 // at least four for each cell, a power of two
constexpr int kAhead = 8;                  // rows of values in flight for each group
constexpr int kMostExtra = 2;

// A region is a square of patches of level 0 with the patches of all levels over it. Blocks along x: the
// regions of a row, in each the blocks of its levels (coarsest first), in each the runs of channels.
struct Regions {
    int side_bits;  // of a region, in patches of level 0: 2^side_bits
    int across, down;
    int blocks;     // of a region, for one run of channels

    __host__ __device__ Regions(const Levels& levels, int groups) {
        side_bits = levels.count == 1 ? 2 : max(3, levels.count - 1);
        const int texels = kPatch << side_bits;
        across = (levels.at[0].W + texels - 1) / texels;
        down = (levels.at[0].H + texels - 1) / texels;
        blocks = 0;
        for (int level = 0; level < levels.count; level++) blocks += blocks_of(level, groups);
    }
    // Groups that share one patch of a level, as a power of two.
    __host__ __device__ static int helper_bits(int level, int groups) {
        const int most = groups >= 16 ? 4 : groups >= 8 ? 3 : 2;
        return min(most, 2 * max(0, level - 1));
    }
    __host__ __device__ int blocks_of(int level, int groups) const {
        const int wanted = 1 << (2 * (side_bits - level) + helper_bits(level, groups));
        return (wanted + groups - 1) / groups;
    }
};

// A point as its cell's four corners see it. The two columns of a cell alternate between two register sets,
// even columns in set 0: shares and slots (a byte each) of [set 0 upper, set 0 lower, set 1 upper, set 1
// lower]. A place in the list without a point is point 0 with no share.
struct __align__(8) Entry {
    uint32_t point, slots;
};

// Shared memory of one group. Extra columns are added by one lane for each corner and column.
template <int L, int V>
struct Bench {
    Pack<V> patch[kPatch * kPatch + 1][L];
    float4 shares[L];
    Entry entries[L];
    uint32_t ends[kRuns];   // of each run of points, in the list of them all
    uint32_t shift[kRuns];  // from a place in that list to a place in `order`
};
struct ExtraBench {
    float patch[kPatch * kPatch + 1][kMostExtra];
    float columns[32][kMostExtra];  // of the staged entries
};

// Where the corners of cell (x, y) of a patch go: cell (x, y) reaches columns x - 1, x and rows y - 1, y.
inline __device__ uint32_t slots_of(int x, int y) {
    uint32_t slots = 0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const int set = c / 2, row = y - 1 + c % 2, column = ((x - 1) & 1) == set ? x - 1 : x;
        const bool inside = row >= 0 && row < kPatch && column >= 0 && column < kPatch;
        slots |= (uint32_t)(inside ? row * kPatch + column : kNowhere) << (8 * c);
    }
    return slots;
}

// The sums of one group: in registers those of the cell at hand, in shared memory those of the patch. X: there
// are extra columns.
template <typename T, int V, int L, bool X>
class Splatter {
  public:
    // values: from this lane's channel on
    __device__ Splatter(const T* values, int C, Bench<L, V>& bench, ExtraBench* extra)
        : values(values), C(C), bench(bench), extra(extra), lane(threadIdx.x % L) {
#pragma unroll
        for (int texel = 0; texel <= kPatch * kPatch; texel++) {
            bench.patch[texel][lane] = {};
            if (X && lane < kMostExtra) extra->patch[texel][lane] = 0.0f;
        }
    }

    // Add `count` staged entries, the same number in every lane of the warp.
    __device__ void add(int count) {
        for (int first = 0; first < count; first += kAhead) {
            Pack<V> ahead[kAhead];
            Entry entries[kAhead];
#pragma unroll
            for (int e = 0; e < kAhead; e++) {
                entries[e] = bench.entries[first + e];
                ahead[e] = load<T, V>(values + (uint64_t)entries[e].point * (uint32_t)C);
            }
#pragma unroll
            for (int e = 0; e < kAhead; e++) {
                move_to(entries[e].slots);
                const float4 shares = bench.shares[first + e];
                const float share[4] = {shares.x, shares.y, shares.z, shares.w};
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    if (share[c] == 0.0f) continue;  // so that a NaN stays in the texels it belongs to
#pragma unroll
                    for (int v = 0; v < V; v++) corner[c].at[v] += share[c] * ahead[e].at[v];
                }
                if (X) {
                    const float mine = reinterpret_cast<const float*>(bench.shares + first + e)[own_corner()];
                    if (mine != 0.0f) extra_sum += mine * extra->columns[first + e][own_column()];
                }
            }
        }
    }

    // What is still in registers goes to the patch.
    __device__ void finish() { move_to(kNowhere * 0x01010101u); }

  private:
    const T* values;
    const int C;
    Bench<L, V>& bench;
    ExtraBench* extra;
    const int lane;
    uint32_t slots = kNowhere * 0x01010101u;
    Pack<V> corner[4] = {};
    float extra_sum = 0.0f;

    __device__ int own_corner() const { return lane / kMostExtra % 4; }
    __device__ int own_column() const { return lane % kMostExtra; }

    // All groups of the warp put down a register set as soon as one of them must: that is never wrong, and
    // cheaper than taking turns.
    __device__ void move_to(uint32_t next) {
        const uint32_t changed = slots ^ next;
        if (!__any_sync(kWholeWarp, changed != 0)) return;
        if (__any_sync(kWholeWarp, changed & 0x0000ffffu)) flush(0), flush(1);
        if (__any_sync(kWholeWarp, changed & 0xffff0000u)) flush(2), flush(3);
        if (X) flush_extra();
        slots = next;
    }

    __device__ void flush(int c) {
        const int slot = slots >> (8 * c) & 0xff;
        Pack<V> sum = bench.patch[slot][lane];
#pragma unroll
        for (int v = 0; v < V; v++) sum.at[v] += corner[c].at[v];
        bench.patch[slot][lane] = sum;
        corner[c] = {};
    }

    // No two corners of a cell have one slot, but for the one that is nowhere.
    __device__ void flush_extra() {
        const int slot = slots >> (8 * own_corner()) & 0xff;
        if (lane < 4 * kMostExtra && slot != kNowhere) extra->patch[slot][own_column()] += extra_sum;
        __syncwarp();
        extra_sum = 0.0f;
    }
};

// Stage a point at `at` for a patch whose first cell is (column, row).
inline __device__ void stage(float2 at, float weight, uint32_t point, const Level& level, int column, int row,
                             const uint32_t* slots, float4& shares, Entry& entry) {
    const float x = __fmul_rn(at.x, (float)level.W) - 0.5f - (float)column;
    const float y = __fmul_rn(at.y, (float)level.H) - 0.5f - (float)row;
    const int cell_x = min(max((int)floorf(x), 0), kCells - 1), cell_y = min(max((int)floorf(y), 0), kCells - 1);
    const float fx = fminf(fmaxf(x - (float)cell_x, 0.0f), 1.0f), fy = fminf(fmaxf(y - (float)cell_y, 0.0f), 1.0f);
    const bool swapped = cell_x % 2 == 0;  // the left column, x - 1, is odd: set 1
    const float even = swapped ? fx : 1.0f - fx, odd = swapped ? 1.0f - fx : fx;
    shares.x = weight * (even * (1.0f - fy));
    shares.y = weight * (even * fy);
    shares.z = weight * (odd * (1.0f - fy));
    shares.w = weight * (odd * fy);
    entry = {point, slots[cell_y * kCells + cell_x]};
}

// Lists the points of the cells from (column, row) on as runs in sorted order, all lanes of the group together,
// of cells (of one level alone: rows of cells) first .. last only. Fills ends and shift, see Bench, to `most`
// (a power of two) and returns how many points there are.
template <int L>
__device__ uint32_t list_runs(const Atoms& atoms, const uint32_t* starts, int column, int row, int depth,
                              const Level& level, int first, int last, int most, uint32_t* ends, uint32_t* shift) {
    const int lane = threadIdx.x % L;
    // cells beyond the last one of the level belong to no texel, and may lie beyond the last atom
    const int down = min(kCells, level.H - row), across = min(kCells, level.W - column);
    uint32_t before = 0;  // points of the cells so far
    for (int begin = 0; 4 * begin < most; begin += L) {
        const int cell = first + begin + lane;
        uint32_t from[4] = {}, length[4] = {};
        if (atoms.levels == 1) {
            if (cell < last && cell < down) {
                const uint32_t* at = starts + (int64_t)(row + cell + 1) * atoms.width + column + 1;
                from[0] = at[0];
                length[0] = at[across] - from[0];
            }
        } else if (cell < last && cell / kCells < down && cell % kCells < across) {
            int64_t block[4];
            atoms.blocks(column + cell % kCells, row + cell / kCells, depth, block);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                from[k] = starts[block[k]];
                length[k] = starts[block[k] + (1ll << (2 * depth))] - from[k];
            }
        }
        const uint32_t own = length[0] + length[1] + length[2] + length[3];
        uint32_t end = own;
#pragma unroll
        for (int reach = 1; reach < L; reach *= 2) {
            const uint32_t left = __shfl_up_sync(kWholeWarp, end, reach, L);
            if (lane >= reach) end += left;
        }
        uint32_t at = before + end - own;
        if (4 * (begin + lane) < most) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                shift[4 * (begin + lane) + k] = from[k] - at;
                ends[4 * (begin + lane) + k] = at += length[k];
            }
        }
        before += __shfl_sync(kWholeWarp, end, L - 1, L);
    }
    __syncwarp();
    return before;
}

}  // namespace omega

// UV splatting on CUDA: how a group of lanes adds up one patch. See uv_splat_cuda.cu.

#pragma once

#include "uv_splat.cuh"

namespace omega {

constexpr int kPatch = 4;                  // texels along the side of a group's patch
constexpr int kCells = kPatch + 1;         // cells along that side
constexpr int kNowhere = kPatch * kPatch;  // the slot for corners that belong to another patch
constexpr int kRuns = 8;                   // at least one for each row of cells, a power of two
constexpr int kAhead = 8;                  // rows of values in flight for each group
constexpr int kMostExtra = 2;

// A block's groups own neighbouring patches: as many side by side, the others below.
template <int Groups>
constexpr int kAcross = Groups >= 32 ? 8 : 4;

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
    uint32_t ends[kRuns];   // of each row of cells, in the list of all points of the patch
    uint32_t shift[kRuns];  // from a place in that list to a place in `order`
};
template <int L>
struct ExtraBench {
    float patch[kPatch * kPatch + 1][kMostExtra];
    float columns[L][kMostExtra];  // of the staged entries
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
    __device__ Splatter(const T* values, int C, Bench<L, V>& bench, ExtraBench<L>* extra)
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
    ExtraBench<L>* extra;
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
        sum += corner[c];
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

// A point as one lane holds it until it is staged.
struct Held {
    uint32_t point = kNobody;
    float2 at{};
    float weight = 1.0f, extra[kMostExtra] = {};
};

template <bool X>
__device__ Held fetch(const Points& points, uint32_t point) {
    Held out;
    if (point == kNobody) return out;
    out.point = point;
    out.at = points.uv[point];
    if (points.weight) out.weight = points.weight[point];
    if (X) {
        const float* extra = points.extra + (int64_t)point * points.E;
#pragma unroll
        for (int e = 0; e < kMostExtra; e++)
            if (e < points.E) out.extra[e] = extra[e];
    }
    return out;
}

// Stage it for a patch whose first cell is (column, row).
inline __device__ void stage(const Held& held, const Maps& maps, int column, int row, const uint32_t* slots,
                             float4& shares, Entry& entry) {
    const float x = __fmul_rn(held.at.x, (float)maps.W) - 0.5f - (float)column;
    const float y = __fmul_rn(held.at.y, (float)maps.H) - 0.5f - (float)row;
    const int cell_x = min(max((int)floorf(x), 0), kCells - 1), cell_y = min(max((int)floorf(y), 0), kCells - 1);
    const float fx = fminf(fmaxf(x - (float)cell_x, 0.0f), 1.0f), fy = fminf(fmaxf(y - (float)cell_y, 0.0f), 1.0f);
    const bool swapped = cell_x % 2 == 0;  // the left column, x - 1, is odd: set 1
    const float even = swapped ? fx : 1.0f - fx, odd = swapped ? 1.0f - fx : fx;
    shares.x = held.weight * (even * (1.0f - fy));
    shares.y = held.weight * (even * fy);
    shares.z = held.weight * (odd * (1.0f - fy));
    shares.w = held.weight * (odd * fy);
    entry = {held.point, slots[cell_y * kCells + cell_x]};
}

// Lists the points of the cells around the patch at (start, top), a run for each row of cells, all lanes of the
// group together: fills ends and shift, see Bench, and returns how many points there are.
template <int L>
__device__ uint32_t list_runs(const Cells& cells, const uint32_t* starts, int start, int top, bool exists,
                              uint32_t* ends, uint32_t* shift) {
    const int lane = threadIdx.x % L;
    uint32_t from = 0, length = 0;
    if (exists && lane < kCells && top + lane < cells.height) {
        const uint32_t* at = starts + (int64_t)(top + lane) * cells.width + start;
        from = at[0];
        length = at[min(kCells, cells.width - start)] - from;
    }
    uint32_t end = length;
#pragma unroll
    for (int reach = 1; reach < kRuns; reach *= 2) {
        const uint32_t before = __shfl_up_sync(kWholeWarp, end, reach, L);
        if (lane >= reach) end += before;
    }
    if (lane < kRuns) ends[lane] = end, shift[lane] = from - (end - length);
    const uint32_t total = __shfl_sync(kWholeWarp, end, kRuns - 1, L);
    __syncwarp();
    return total;
}

// Writes a patch, the four texels that it is at the next coarser level, and the one at the level after that;
// `read` gives its texels. A coarser level exists only where the sizes are divisible by its texels.
template <int V, class Read>
__device__ void write_patch(const Maps& maps, float* const* out, int columns, int column, int view, int top, int start,
                            Read read) {
    const auto put = [&](const Pack<V>& sum, int y, int x, int level) {
        const int64_t texel = maps.texel(view, (top + y) >> level, (start + x) >> level, level);
        store<float, V>(out[level] + texel * columns + column, sum);
    };
    Pack<V> whole = {};
    for (int quarter = 0; quarter < 4; quarter++) {
        const int first_y = quarter / 2 * 2, first_x = quarter % 2 * 2;
        Pack<V> sum = {};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int y = first_y + k / 2, x = first_x + k % 2;
            const Pack<V> texel = read(y * kPatch + x);
            if (top + y < maps.H && start + x < maps.W) put(texel, y, x, 0);
            sum += texel;
        }
        if (maps.levels > 1 && top + first_y < maps.H && start + first_x < maps.W) put(sum, first_y, first_x, 1);
        whole += sum;
    }
    if (maps.levels > 2) put(whole, 0, 0, 2);
}

}  // namespace omega

// The point operators for CPU tensors, equal to ops/reference.py to the last index. Plain C++17 without any library, so
// that any compiler builds it in seconds and no release of torch breaks it. ops/cpu.py compiles and calls it.
//
// A squared distance is (dx dx + dy dy) + dz dz in float32 with every product rounded: compile with -ffp-contract=off and
// without -ffast-math. Clouds are rows of x, y, z; a NaN or an infinity in them gives some valid index, never a crash.
// Threads are made for a call and joined before it returns: nothing lives on that a forked process could miss.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

constexpr float INF = std::numeric_limits<float>::infinity();

// Runs work(b) for every cloud b on at most so many threads. Returns 0, or 1 if memory ran out.
template <class Work> int for_each_cloud(int64_t clouds, int64_t threads, Work work) {
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{0};
    auto take_clouds = [&] {
        try {
            for (int64_t b; (b = next++) < clouds;) work(b);
        } catch (const std::bad_alloc &) {
            failed = 1;
        }
    };
    std::vector<std::thread> helpers;
    try {
        for (int64_t t = 1; t < std::min(threads, clouds); t++) helpers.emplace_back(take_clouds);
    } catch (const std::exception &) {  // no more threads to be had: those there are do the work
    }
    take_clouds();
    for (auto &helper : helpers) helper.join();
    return failed;
}

// ---- Furthest point sampling: all N distances are updated m - 1 times, in loops that the compiler vectorises. ----

constexpr int BLOCK = 256;  // points between two looks at the maximum; locating it then costs one block, not N
constexpr int LANES = 16;   // independent maxima in a block: one or more whole vector registers

// nearest[i] = min(nearest[i], squared distance to (cx, cy, cz)) over one block; returns the block's maximum.
float update_block(const float *x, const float *y, const float *z, float *nearest, float cx, float cy, float cz) {
    float lane_max[LANES];
    std::fill(lane_max, lane_max + LANES, -1.0f);
    for (int i = 0; i < BLOCK; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float dx = x[i + k] - cx, dy = y[i + k] - cy, dz = z[i + k] - cz;
            float d = dx * dx + dy * dy + dz * dz, old = nearest[i + k];
            d = d < old ? d : old;
            nearest[i + k] = d;
            lane_max[k] = d > lane_max[k] ? d : lane_max[k];
        }
    return *std::max_element(lane_max, lane_max + LANES);
}

void furthest_point_sample(const float *xyz, int64_t n, int64_t m, int64_t *index) {
    const int64_t blocks = (n + BLOCK - 1) / BLOCK, padded = blocks * BLOCK;
    std::vector<float> columns(4 * padded);
    float *x = columns.data(), *y = x + padded, *z = y + padded, *nearest = z + padded;
    std::fill(nearest, nearest + n, INF);
    std::fill(nearest + n, nearest + padded, -1.0f);  // padding stays below every distance, so it is never chosen
    for (int64_t i = 0; i < n; i++) x[i] = xyz[3 * i], y[i] = xyz[3 * i + 1], z[i] = xyz[3 * i + 2];
    int64_t chosen = 0;
    index[0] = 0;
    for (int64_t s = 1; s < m; s++) {
        const float cx = x[chosen], cy = y[chosen], cz = z[chosen];
        float furthest = -1.0f;
        int64_t start = 0;
        for (int64_t i = 0; i < padded; i += BLOCK) {
            const float block_max = update_block(x + i, y + i, z + i, nearest + i, cx, cy, cz);
            if (block_max > furthest) furthest = block_max, start = i;  // of equal blocks the first
        }
        chosen = std::find(nearest + start, nearest + start + BLOCK, furthest) - nearest;
        index[s] = chosen;
    }
}

// ---- A grid of cubic cells over a cloud, its points sorted by cell. Cell x is the fastest, so that neighbours along x
// ---- are one contiguous run of points. Every coordinate has a cell: those outside the box get the nearest one.

struct Grid {
    double low[3], size;
    int64_t cells[3];
    std::vector<int32_t> start;  // of each cell in the arrays below, and the end of the last one
    std::vector<float> x, y, z;
    std::vector<int32_t> id;

    // Cells of at least min_size metres and, whatever the cloud's shape, about max_cells of them at most.
    Grid(const float *xyz, int64_t n, double min_size, double max_cells) : x(n), y(n), z(n), id(n) {
        double extent[3];
        for (int k = 0; k < 3; k++) {
            float lo = INF, hi = -INF;
            for (int64_t i = 0; i < n; i++) {
                const float v = xyz[3 * i + k];
                if (std::fabs(v) < INF) lo = std::min(lo, v), hi = std::max(hi, v);
            }
            low[k] = lo < INF ? lo : 0.0;
            extent[k] = lo < INF ? double(hi) - lo : 0.0;
        }
        size = std::max({min_size, extent[0] / max_cells, extent[1] / max_cells, extent[2] / max_cells});
        if (!(size > 0)) size = 1;  // all points equal
        auto count = [&](int k) { return std::floor(extent[k] / size) + 1; };
        while (count(0) * count(1) * count(2) > max_cells) size *= 1.1;
        for (int k = 0; k < 3; k++) cells[k] = int64_t(count(k));

        start.assign(cells[0] * cells[1] * cells[2] + 1, 0);
        std::vector<int32_t> cell(n);
        for (int64_t i = 0; i < n; i++) {
            const float *p = xyz + 3 * i;
            cell[i] = int32_t(row(along(p[1], 1), along(p[2], 2)) + along(p[0], 0));
            start[cell[i] + 1]++;
        }
        for (size_t c = 1; c < start.size(); c++) start[c] += start[c - 1];
        std::vector<int32_t> next(start.begin(), start.end() - 1);
        for (int64_t i = 0; i < n; i++) {
            const int32_t slot = next[cell[i]]++;
            x[slot] = xyz[3 * i], y[slot] = xyz[3 * i + 1], z[slot] = xyz[3 * i + 2], id[slot] = int32_t(i);
        }
    }
    // Never falls as v rises, so an interval of coordinates lies in the interval of its ends' cells. NaN gives 0.
    int64_t along(double v, int k) const {
        const double c = (v - low[k]) / size;
        return c > 0 ? (c < cells[k] ? int64_t(c) : cells[k] - 1) : 0;
    }
    int64_t row(int64_t cy, int64_t cz) const { return (cz * cells[1] + cy) * cells[0]; }
};

// ---- Ball query: the hits in the cells that the ball touches, put in index order by a bitmap. ----

// A set of indices below n that gives its members back in order. Words without members are skipped 64 at a time.
struct OrderedSet {
    std::vector<uint64_t> bits, words;
    explicit OrderedSet(int64_t n) : bits(n / 64 + 1), words(n / 4096 + 1) {}
    void add(int32_t i) { bits[i >> 6] |= 1ull << (i & 63), words[i >> 12] |= 1ull << ((i >> 6) & 63); }
    // Takes all members out and writes the first `most` of them; returns how many it wrote.
    int64_t drain(int64_t *out, int64_t most) {
        int64_t count = 0;
        for (size_t w = 0; w < words.size(); w++)
            for (; words[w]; words[w] &= words[w] - 1) {
                const int64_t word = int64_t(w) * 64 + __builtin_ctzll(words[w]);
                for (uint64_t b = bits[word]; b && count < most; b &= b - 1) out[count++] = word * 64 + __builtin_ctzll(b);
                bits[word] = 0;
            }
        return count;
    }
};

void ball_query(const float *xyz, int64_t n, const float *centres, int64_t m, float radius, int64_t nsample,
                int64_t *index) {
    const float squared_radius = radius * radius;
    // A float32 distance below the radius can belong to a point this much further: rounding, and below 1e-19 underflow.
    const double reach = double(radius) * 1.0001 + 1e-18;
    const Grid grid(xyz, n, reach, 4.0 * n + 64);
    OrderedSet inside(n);
    std::vector<int32_t> hits(n + 1);
    for (int64_t j = 0; j < m; j++) {
        const float cx = centres[3 * j], cy = centres[3 * j + 1], cz = centres[3 * j + 2];
        const int64_t x0 = grid.along(cx - reach, 0), x1 = grid.along(cx + reach, 0);
        const int64_t y0 = grid.along(cy - reach, 1), y1 = grid.along(cy + reach, 1);
        const int64_t z0 = grid.along(cz - reach, 2), z1 = grid.along(cz + reach, 2);
        int64_t found = 0;
        for (int64_t gz = z0; gz <= z1; gz++)
            for (int64_t gy = y0; gy <= y1; gy++) {
                const int64_t row = grid.row(gy, gz);
                const int32_t end = grid.start[row + x1 + 1];
                for (int32_t i = grid.start[row + x0]; i < end; i++) {
                    const float dx = cx - grid.x[i], dy = cy - grid.y[i], dz = cz - grid.z[i];
                    hits[found] = grid.id[i];  // kept only if the count moves on: no branch to mispredict
                    found += dx * dx + dy * dy + dz * dz < squared_radius;
                }
            }
        for (int64_t i = 0; i < found; i++) inside.add(hits[i]);
        int64_t *out = index + j * nsample;
        const int64_t count = found ? inside.drain(out, nsample) : 0;
        std::fill(out + count, out + nsample, count ? out[0] : 0);
    }
}

// ---- Three nearest neighbours: cubes of cells around each point, twice as wide until nothing outside can be nearer. ----

// Distance and index in one integer: the bits of a float >= 0 rise with its value, so one comparison orders both.
uint64_t sort_key(float distance, int32_t id) {
    uint32_t bits;
    std::memcpy(&bits, &distance, sizeof bits);
    return uint64_t(bits) << 32 | uint32_t(id);
}

void three_nn(const float *unknown, int64_t n, const float *known, int64_t m, float *distance, int64_t *index) {
    constexpr double CELLS_PER_POINT = 2;
    const Grid grid(known, m, 0, CELLS_PER_POINT * m + 64);
    const uint64_t missing = sort_key(INF, 0);
    for (int64_t j = 0; j < n; j++) {
        const float cx = unknown[3 * j], cy = unknown[3 * j + 1], cz = unknown[3 * j + 2];
        const int64_t gx = grid.along(cx, 0), gy = grid.along(cy, 1), gz = grid.along(cz, 2);
        uint64_t best[3];
        for (int64_t ring = 1;; ring *= 2) {
            const int64_t x0 = std::max<int64_t>(gx - ring, 0), x1 = std::min(gx + ring, grid.cells[0] - 1);
            const int64_t y0 = std::max<int64_t>(gy - ring, 0), y1 = std::min(gy + ring, grid.cells[1] - 1);
            const int64_t z0 = std::max<int64_t>(gz - ring, 0), z1 = std::min(gz + ring, grid.cells[2] - 1);
            uint64_t k0 = ~0ull, k1 = ~0ull, k2 = ~0ull;  // the three smallest so far
            for (int64_t cell_z = z0; cell_z <= z1; cell_z++)
                for (int64_t cell_y = y0; cell_y <= y1; cell_y++) {
                    const int64_t row = grid.row(cell_y, cell_z);
                    const int32_t end = grid.start[row + x1 + 1];
                    for (int32_t i = grid.start[row + x0]; i < end; i++) {
                        const float dx = cx - grid.x[i], dy = cy - grid.y[i], dz = cz - grid.z[i];
                        const uint64_t key = sort_key(dx * dx + dy * dy + dz * dz, grid.id[i]);
                        const uint64_t not0 = std::max(k0, key), not1 = std::max(k1, not0);
                        k0 = std::min(k0, key), k1 = std::min(k1, not0), k2 = std::min(k2, not1);
                    }
                }
            best[0] = k0, best[1] = k1, best[2] = k2;
            const bool everything = x1 - x0 + 1 == grid.cells[0] && y1 - y0 + 1 == grid.cells[1] && z1 - z0 + 1 == grid.cells[2];
            // What lies outside is at least `ring` cells away along an axis: 1 % less for rounding, and nothing may
            // be so near that float32 squares underflow and distances become equal.
            const double outside = 0.99 * (ring * grid.size) * (ring * grid.size) - 1e-36;
            float third;
            const uint32_t bits = uint32_t(k2 >> 32);
            std::memcpy(&third, &bits, sizeof third);
            if (everything || third < outside) break;
        }
        for (int k = 0; k < 3; k++) {
            const uint64_t key = best[k] == ~0ull ? missing : best[k];
            const uint32_t bits = uint32_t(key >> 32);
            std::memcpy(distance + 3 * j + k, &bits, sizeof bits);
            index[3 * j + k] = int64_t(key & 0xffffffff);
        }
    }
}

}  // namespace

// ---- What ops/cpu.py calls: contiguous batches of B clouds. Each returns 0, or 1 if memory ran out. ----

extern "C" {

int batch_furthest_point_sample(const float *xyz, int64_t B, int64_t N, int64_t m, int64_t *index, int64_t threads) {
    return for_each_cloud(B, threads, [=](int64_t b) { furthest_point_sample(xyz + b * N * 3, N, m, index + b * m); });
}

int batch_ball_query(const float *xyz, const float *centres, int64_t B, int64_t N, int64_t M, float radius,
                     int64_t nsample, int64_t *index, int64_t threads) {
    return for_each_cloud(B, threads, [=](int64_t b) {
        ball_query(xyz + b * N * 3, N, centres + b * M * 3, M, radius, nsample, index + b * M * nsample);
    });
}

int batch_three_nn(const float *unknown, const float *known, int64_t B, int64_t N, int64_t M, float *distance,
                   int64_t *index, int64_t threads) {
    return for_each_cloud(B, threads, [=](int64_t b) {
        three_nn(unknown + b * N * 3, N, known + b * M * 3, M, distance + b * N * 3, index + b * N * 3);
    });
}
}

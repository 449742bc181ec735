// The point operators for CPU tensors, equal to ops/reference.py to the last index. Plain C++17 without any library, so
// that any compiler builds it in seconds and no release of torch breaks it. ops/cpu.py compiles and calls it.
//
// Clouds are rows of x, y, z; a NaN or an infinity in them gives some valid index, never a crash.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "threads.h"

namespace {

constexpr float INF = std::numeric_limits<float>::infinity();

// In float32 and in this order, every product rounded: compile with -ffp-contract=off and without -ffast-math.
inline float squared_distance(float ax, float ay, float az, float bx, float by, float bz) {
    const float dx = ax - bx, dy = ay - by, dz = az - bz;
    return (dx * dx + dy * dy) + dz * dz;
}

// Distance and number in one integer: the bits of a float >= 0 rise with its value, so one comparison orders both.
inline uint64_t sort_key(float distance, int32_t number) {
    uint32_t bits;
    std::memcpy(&bits, &distance, sizeof bits);
    return uint64_t(bits) << 32 | uint32_t(number);
}

// ---- A grid of cubic cells over a cloud, its points sorted by cell, x fastest: neighbours along x are one run.

struct Cells {
    int64_t low[3], high[3];  // a box of cells, both ends in it
};

struct Grid {
    double corner[3], size;  // metres
    int64_t count[3];
    std::vector<int32_t> start;  // of each cell's points in the arrays below, and the end of the last one
    std::vector<float> x, y, z;
    std::vector<int32_t> id;

    // Cells of at least min_size metres and, whatever the cloud's shape, at most max_cells of them.
    Grid(const float *xyz, int64_t n, double min_size, double max_cells) : x(n), y(n), z(n), id(n) {
        max_cells = std::min(max_cells, double(1 << 30));  // cells have 32-bit numbers
        double extent[3];
        for (int k = 0; k < 3; k++) {
            float low = INF, high = -INF;
            for (int64_t i = 0; i < n; i++) {
                const float v = xyz[3 * i + k];
                if (std::fabs(v) < INF) low = std::min(low, v), high = std::max(high, v);
            }
            corner[k] = low < INF ? low : 0;
            extent[k] = low < INF ? double(high) - low : 0;
        }
        size = std::max(min_size, std::max({extent[0], extent[1], extent[2]}) / max_cells);
        if (!(size > 0)) size = 1;  // all points equal
        const auto needed = [&](int k) { return std::floor(extent[k] / size) + 1; };
        while (needed(0) * needed(1) * needed(2) > max_cells) size *= 1.1;
        for (int k = 0; k < 3; k++) count[k] = int64_t(needed(k));

        start.assign(count[0] * count[1] * count[2] + 1, 0);
        std::vector<int32_t> cell(n);
        for (int64_t i = 0; i < n; i++) {
            const float *p = xyz + 3 * i;
            cell[i] = int32_t((along(p[2], 2) * count[1] + along(p[1], 1)) * count[0] + along(p[0], 0));
            start[cell[i] + 1]++;
        }
        for (size_t c = 1; c < start.size(); c++) start[c] += start[c - 1];
        std::vector<int32_t> next(start.begin(), start.end() - 1);
        for (int64_t i = 0; i < n; i++) {
            const int32_t slot = next[cell[i]]++;
            x[slot] = xyz[3 * i], y[slot] = xyz[3 * i + 1], z[slot] = xyz[3 * i + 2], id[slot] = int32_t(i);
        }
    }
    // The cell of coordinate v on axis k, the nearest one if it is outside. It never falls as v rises, so an interval
    // of coordinates lies in the interval of its ends' cells. NaN gives 0.
    int64_t along(double v, int k) const {
        const double c = (v - corner[k]) / size;
        return c > 0 ? (c < count[k] ? int64_t(c) : count[k] - 1) : 0;
    }
    // visit(i) for all points of a box of cells, i a position in x, y, z and id.
    template <class Visit> void for_each_point(const Cells &box, Visit visit) const {
        for (int64_t cz = box.low[2]; cz <= box.high[2]; cz++)
            for (int64_t cy = box.low[1]; cy <= box.high[1]; cy++) {
                const int64_t row = (cz * count[1] + cy) * count[0];
                const int32_t end = start[row + box.high[0] + 1];
                for (int32_t i = start[row + box.low[0]]; i < end; i++) visit(i);
            }
    }
};

// ---- Furthest point sampling: the points in buckets of neighbours, of which most are too far from the newest chosen
// ---- point for any distance in them to fall: a look at their bounding box is enough.

constexpr int BUCKET = 64;  // points
constexpr int LANES = 16;   // maxima kept side by side: whole vector registers, in loops that the compiler vectorises

struct Bucket {
    float x[BUCKET], y[BUCKET], z[BUCKET], nearest[BUCKET];  // nearest: squared distance to the nearest chosen point
    int32_t id[BUCKET];

    // Takes in a newly chosen point; returns the bucket's largest distance.
    float update(float cx, float cy, float cz) {
        float lane_max[LANES];
        std::fill(lane_max, lane_max + LANES, -1.0f);
        for (int i = 0; i < BUCKET; i += LANES)
            for (int k = 0; k < LANES; k++) {
                const float d = squared_distance(x[i + k], y[i + k], z[i + k], cx, cy, cz), old = nearest[i + k];
                const float now = d < old ? d : old;
                nearest[i + k] = now;
                lane_max[k] = now > lane_max[k] ? now : lane_max[k];
            }
        return *std::max_element(lane_max, lane_max + LANES);
    }
    int32_t lowest_id_at(float distance) const {
        int32_t lowest = INT32_MAX;
        for (int i = 0; i < BUCKET; i++) lowest = std::min(lowest, nearest[i] == distance ? id[i] : INT32_MAX);
        return lowest;
    }
};

// How far v is outside the interval low..high.
inline float outside(float v, float low, float high) {
    const float below = low - v, above = v - high, most = below > above ? below : above;
    return most > 0 ? most : 0;
}

void furthest_point_sample(const float *xyz, int64_t n, int64_t m, int64_t *index) {
    const Grid grid(xyz, n, 0, n / 8.0 + 64);  // for its order: cells of about eight points, rows of cells
    const int64_t count = (n + BUCKET - 1) / BUCKET;
    std::vector<Bucket> buckets(count);
    std::vector<float> low[3], high[3], bound(count), furthest(count, INF);
    std::vector<uint64_t> key(count);  // furthest, then the lowest id there: the larger key is the one to choose
    for (int k = 0; k < 3; k++) low[k].assign(count, INF), high[k].assign(count, -INF);
    for (int64_t i = 0; i < count * BUCKET; i++) {
        const int64_t b = i / BUCKET, slot = i % BUCKET, from = std::min(i, n - 1);
        const float p[3] = {grid.x[from], grid.y[from], grid.z[from]};
        buckets[b].x[slot] = p[0], buckets[b].y[slot] = p[1], buckets[b].z[slot] = p[2];
        buckets[b].id[slot] = grid.id[from];
        buckets[b].nearest[slot] = i < n ? INF : -1;  // the last bucket is filled up with points never chosen
        for (int k = 0; k < 3; k++) low[k][b] = std::min(low[k][b], p[k]), high[k][b] = std::max(high[k][b], p[k]);
    }
    int64_t chosen = 0;
    index[0] = 0;
    for (int64_t s = 1; s < m; s++) {
        const float cx = xyz[3 * chosen], cy = xyz[3 * chosen + 1], cz = xyz[3 * chosen + 2];
        // Rounding never changes an order: no point is nearer than its bucket's box, in float32 too.
        for (int64_t b = 0; b < count; b++) {
            const float dx = outside(cx, low[0][b], high[0][b]);
            const float dy = outside(cy, low[1][b], high[1][b]);
            const float dz = outside(cz, low[2][b], high[2][b]);
            bound[b] = (dx * dx + dy * dy) + dz * dz;
        }
        for (int64_t b = 0; b < count; b++) {
            if (s > 1 && !(bound[b] < furthest[b])) continue;
            furthest[b] = buckets[b].update(cx, cy, cz);
            key[b] = sort_key(furthest[b], INT32_MAX - buckets[b].lowest_id_at(furthest[b]));
        }
        const uint64_t largest = *std::max_element(key.begin(), key.end());
        chosen = INT32_MAX - int64_t(largest & UINT32_MAX);
        index[s] = chosen;
    }
}

// ---- Ball query: the hits among the cells that the ball touches, put in index order by a bitmap.

// A set of indices below n that gives its members back in order. Words without members are skipped 64 at a time.
struct OrderedSet {
    std::vector<uint64_t> bits, words;
    explicit OrderedSet(int64_t n) : bits(n / 64 + 1), words(n / 4096 + 1) {}
    void add(int32_t i) { bits[i >> 6] |= 1ull << (i & 63), words[i >> 12] |= 1ull << ((i >> 6) & 63); }
    // Empties the set and writes its first `most` members; returns how many it wrote.
    int64_t drain(int64_t *out, int64_t most) {
        int64_t written = 0;
        for (size_t w = 0; w < words.size(); w++)
            for (; words[w]; words[w] &= words[w] - 1) {
                const int64_t word = int64_t(w) * 64 + __builtin_ctzll(words[w]);
                for (uint64_t b = bits[word]; b && written < most; b &= b - 1)
                    out[written++] = word * 64 + __builtin_ctzll(b);
                bits[word] = 0;
            }
        return written;
    }
};

void ball_query(const float *xyz, int64_t n, const float *centres, int64_t m, float radius, int64_t nsample,
                int64_t *index) {
    const float squared_radius = radius * radius;
    // Rounding never changes an order: a point that is a radius off along one axis has d^2 >= squared_radius in float32
    // too, underflow and all. So the cells from c - radius to c + radius hold every hit.
    const double reach = radius;
    const Grid grid(xyz, n, reach, 4.0 * n + 64);
    OrderedSet inside(n);
    std::vector<int32_t> hits(n + 1);
    for (int64_t j = 0; j < m; j++) {
        const float *c = centres + 3 * j;
        Cells box;
        for (int k = 0; k < 3; k++) box.low[k] = grid.along(c[k] - reach, k), box.high[k] = grid.along(c[k] + reach, k);
        int64_t found = 0;
        grid.for_each_point(box, [&](int32_t i) {
            hits[found] = grid.id[i];  // stays only if the count moves on: no branch to mispredict
            found += squared_distance(c[0], c[1], c[2], grid.x[i], grid.y[i], grid.z[i]) < squared_radius;
        });
        for (int64_t i = 0; i < found; i++) inside.add(hits[i]);
        int64_t *out = index + j * nsample;
        const int64_t written = found ? inside.drain(out, nsample) : 0;
        std::fill(out + written, out + nsample, written ? out[0] : 0);
    }
}

// ---- Three nearest neighbours: boxes of cells around each point, twice as wide until nothing outside can be nearer.

inline float distance_of(uint64_t key) {
    const uint32_t bits = uint32_t(key >> 32);
    float distance;
    std::memcpy(&distance, &bits, sizeof bits);
    return distance;
}

void three_nn(const float *unknown, int64_t n, const float *known, int64_t m, float *distance, int64_t *index) {
    const Grid grid(known, m, 0, 2.0 * m + 64);  // two cells a point: few candidates, and seldom a second round
    for (int64_t j = 0; j < n; j++) {
        const float *c = unknown + 3 * j;
        uint64_t key0, key1, key2;  // the three smallest so far
        for (int64_t ring = 1;; ring *= 2) {
            Cells box;
            bool everything = true;
            for (int k = 0; k < 3; k++) {
                const int64_t cell = grid.along(c[k], k), last = grid.count[k] - 1;
                box.low[k] = std::max<int64_t>(cell - ring, 0), box.high[k] = std::min(cell + ring, last);
                everything &= box.low[k] == 0 && box.high[k] == last;
            }
            key0 = key1 = key2 = UINT64_MAX;
            grid.for_each_point(box, [&](int32_t i) {
                const float d = squared_distance(c[0], c[1], c[2], grid.x[i], grid.y[i], grid.z[i]);
                const uint64_t key = sort_key(d, grid.id[i]), not0 = std::max(key, key0), not1 = std::max(not0, key1);
                key0 = std::min(key, key0), key1 = std::min(not0, key1), key2 = std::min(not1, key2);
            });
            // A point outside is at least `ring` cells away: 1 % less for rounding, and where float32 squares underflow
            // nothing is sure.
            const double outside = 0.99 * (ring * grid.size) * (ring * grid.size) - 1e-36;
            if (everything || distance_of(key2) < outside) break;
        }
        const uint64_t keys[3] = {key0, key1, key2};
        for (int k = 0; k < 3; k++) {
            const bool missing = keys[k] == UINT64_MAX;  // fewer than three known points
            distance[3 * j + k] = missing ? INF : distance_of(keys[k]);
            index[3 * j + k] = missing ? 0 : int64_t(keys[k] & UINT32_MAX);
        }
    }
}

}  // namespace

// ---- What ops/cpu.py calls: contiguous batches of B clouds. Each returns 0, or 1 if memory ran out.

extern "C" {

int batch_furthest_point_sample(const float *xyz, int64_t B, int64_t N, int64_t m, int64_t *index, int64_t threads) {
    return for_each(B, threads, [=](int64_t b) { furthest_point_sample(xyz + b * N * 3, N, m, index + b * m); });
}

int batch_ball_query(const float *xyz, const float *centres, int64_t B, int64_t N, int64_t M, float radius,
                     int64_t nsample, int64_t *index, int64_t threads) {
    return for_each(B, threads, [=](int64_t b) {
        ball_query(xyz + b * N * 3, N, centres + b * M * 3, M, radius, nsample, index + b * M * nsample);
    });
}

int batch_three_nn(const float *unknown, const float *known, int64_t B, int64_t N, int64_t M, float *distance,
                   int64_t *index, int64_t threads) {
    return for_each(B, threads, [=](int64_t b) {
        three_nn(unknown + b * N * 3, N, known + b * M * 3, M, distance + b * N * 3, index + b * N * 3);
    });
}
}

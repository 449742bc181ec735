// What the shared MLPs of PointNet++ need besides matrix products, for rows (R, C) on the CPU, each in one pass over
// memory: which points and neighbours are distinct, sums over gathered rows, batch norm with ReLU, and the maximum over
// the neighbours of a centre. ops/rows.py says what each computes; ops/cpu.py compiles this file with cpu.cpp.
//
// Sums are taken over blocks of a fixed number of rows and added up in double precision in the order of the blocks:
// accurate, and the same for any number of threads. A row may count several times:
// multiplicity[r], or once where that is null.

#include <cstring>

#include "threads.h"

namespace {

constexpr int64_t BLOCK_ROWS = 256;  // 64 KiB of 64 channels: between two passes a block stays in the second cache

int64_t blocks_of(int64_t rows) { return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS; }

// Runs work(first row, end, block) for every block of rows.
template <class Work> int for_each_block(int64_t rows, int64_t threads, Work work) {
    return for_each(blocks_of(rows), threads, [&](int64_t block) {
        work(block * BLOCK_ROWS, std::min(rows, (block + 1) * BLOCK_ROWS), block);
    });
}

// Points are equal if all their bits are. Open addressing: a slot holds the number of a distinct point, or -1.
int64_t distinct_points(const uint32_t *points, int64_t N, int64_t K, int64_t *row_of, int64_t *first) {
    int64_t slots = 2, distinct = 0;
    while (slots < 2 * N) slots *= 2;
    std::vector<int32_t> table(slots, -1);
    for (int64_t n = 0; n < N; n++) {
        const uint32_t *point = points + n * K;
        uint64_t hash = 0;
        for (int64_t k = 0; k < K; k++) hash = (hash ^ point[k]) * 0x9E3779B97F4A7C15u, hash ^= hash >> 32;
        int64_t slot = hash & (slots - 1);
        while (table[slot] >= 0 && std::memcmp(points + first[table[slot]] * K, point, K * sizeof *point))
            slot = (slot + 1) & (slots - 1);
        if (table[slot] < 0) first[distinct] = n, table[slot] = int32_t(distinct++);
        row_of[n] = table[slot];
    }
    return distinct;
}

// (value - mean) * factor + shift in this order everywhere: the sign that the ReLU saw must be seen again.
template <class T> inline T affine(T value, T mean, T factor, T shift) { return (value - mean) * factor + shift; }

// The gradient that comes through the ReLU of a row, and what it adds to the sums of g and of g (x - mean).
template <class T>
inline void pass_relu(const T *__restrict grad, const T *__restrict x, const T *mean, const T *factor, const T *shift,
                      int64_t C, T *__restrict passed) {
    for (int64_t c = 0; c < C; c++) passed[c] = affine(x[c], mean[c], factor[c], shift[c]) > 0 ? grad[c] : T(0);
}

template <class T>
inline void add_products(const T *__restrict passed, const T *__restrict x, const T *__restrict mean, int64_t C,
                         T *__restrict sum, T *__restrict product) {
    for (int64_t c = 0; c < C; c++) sum[c] += passed[c], product[c] += passed[c] * (x[c] - mean[c]);
}

// Adds up two sums (C) over all rows: work(first row, end, sum, product) adds the rows of one block to its own.
template <class T, class Work>
int two_sums(int64_t rows, int64_t C, T *sum, T *product, int64_t threads, Work work) {
    const int64_t blocks = blocks_of(rows);
    std::vector<T> sums(blocks * C), products(blocks * C);  // of each block
    const int failed = for_each_block(rows, threads, [&](int64_t begin, int64_t end, int64_t block) {
        work(begin, end, &sums[block * C], &products[block * C]);
    });
    for (int64_t c = 0; c < C; c++) {
        double all_sums = 0, all_products = 0;
        for (int64_t i = c; i < blocks * C; i += C) all_sums += sums[i], all_products += products[i];
        sum[c] = T(all_sums), product[c] = T(all_products);
    }
    return failed;
}

template <class T>
int statistics(const T *x, const T *multiplicity, int64_t R, int64_t C, T *mean, T *variance, double *total,
               int64_t threads) {
    const int64_t blocks = blocks_of(R);
    std::vector<T> means(blocks * C), squares(blocks * C);  // of each block, squares about its own mean
    std::vector<double> weights(blocks);
    const int failed = for_each_block(R, threads, [&](int64_t begin, int64_t end, int64_t block) {
        T *__restrict m = &means[block * C], *__restrict s = &squares[block * C];
        T weight = 0;
        for (int64_t r = begin; r < end; r++) {
            const T *__restrict row = x + r * C, n = multiplicity ? multiplicity[r] : T(1);
            for (int64_t c = 0; c < C; c++) m[c] += n * row[c];
            weight += n;
        }
        for (int64_t c = 0; c < C; c++) m[c] /= weight;
        for (int64_t r = begin; r < end; r++) {
            const T *__restrict row = x + r * C, n = multiplicity ? multiplicity[r] : T(1);
            for (int64_t c = 0; c < C; c++) s[c] += n * ((row[c] - m[c]) * (row[c] - m[c]));
        }
        weights[block] = weight;
    });
    double all = 0;
    for (double weight : weights) all += weight;
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, square = 0;
        for (int64_t block = 0; block < blocks; block++) sum += weights[block] * means[block * C + c];
        for (int64_t block = 0; block < blocks; block++) {
            const double off = means[block * C + c] - sum / all;
            square += squares[block * C + c] + weights[block] * off * off;
        }
        mean[c] = T(sum / all), variance[c] = T(square / all);
    }
    *total = all;
    return failed;
}

template <class T>
int normalise_relu(const T *x, const T *mean, const T *factor, const T *shift, int64_t R, int64_t C, T *y,
                   int64_t threads) {
    return for_each_block(R, threads, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t r = begin; r < end; r++) {
            const T *__restrict row = x + r * C;
            T *__restrict out = y + r * C;
            for (int64_t c = 0; c < C; c++) out[c] = std::max(affine(row[c], mean[c], factor[c], shift[c]), T(0));
        }
    });
}

template <class T>
int normalise_relu_sums(const T *grad, const T *x, const T *mean, const T *factor, const T *shift, int64_t R, int64_t C,
                        T *sum, T *product, int64_t threads) {
    return two_sums(R, C, sum, product, threads, [=](int64_t begin, int64_t end, T *s, T *p) {
        std::vector<T> passed(C);  // of one row; a loop of its own, for compilers do not vectorise the two together
        for (int64_t r = begin; r < end; r++) {
            pass_relu(grad + r * C, x + r * C, mean, factor, shift, C, passed.data());
            add_products(passed.data(), x + r * C, mean, C, s, p);
        }
    });
}

template <class T>
int normalise_relu_backward(const T *grad, const T *x, const T *mean, const T *factor, const T *shift,
                            const T *multiplicity, const T *constant, const T *slope, int64_t R, int64_t C, T *grad_x,
                            int64_t threads) {
    return for_each_block(R, threads, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t r = begin; r < end; r++) {
            const T *__restrict row = x + r * C, *__restrict g = grad + r * C;
            const T n = multiplicity ? multiplicity[r] : T(1);
            T *__restrict out = grad_x + r * C;
            for (int64_t c = 0; c < C; c++) {
                const T passed = affine(row[c], mean[c], factor[c], shift[c]) > 0 ? g[c] : T(0);
                out[c] = factor[c] * (passed - n * (constant[c] + (row[c] - mean[c]) * slope[c]));
            }
        }
    });
}

template <class T>
int maximum(const T *x, const int64_t *start, const T *mean, const T *factor, const T *shift, int64_t G, int64_t C,
            T *y, int32_t *which, int64_t threads) {
    return for_each_block(G, threads, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t g = begin; g < end; g++) {
            T *__restrict best = y + g * C;
            int32_t *__restrict at = which + g * C;
            const T *row = x + start[g] * C;
            for (int64_t c = 0; c < C; c++) best[c] = row[c], at[c] = int32_t(start[g]);
            for (int64_t r = start[g] + 1; r < start[g + 1]; r++) {
                row = x + r * C;
                for (int64_t c = 0; c < C; c++) {
                    const bool better = factor[c] < 0 ? row[c] < best[c] : row[c] > best[c];
                    best[c] = better ? row[c] : best[c], at[c] = better ? int32_t(r) : at[c];
                }
            }
            for (int64_t c = 0; c < C; c++) best[c] = std::max(affine(best[c], mean[c], factor[c], shift[c]), T(0));
        }
    });
}

template <class T>
int maximum_sums(const T *grad, const T *y, const T *x, const int32_t *which, const T *mean, int64_t G, int64_t C,
                 T *sum, T *product, int64_t threads) {
    return two_sums(G, C, sum, product, threads, [=](int64_t begin, int64_t end, T *s, T *p) {
        for (int64_t i = begin * C; i < end * C;)
            for (int64_t c = 0; c < C; c++, i++) {
                const T passed = y[i] > 0 ? grad[i] : T(0);
                s[c] += passed, p[c] += passed * (x[which[i] * C + c] - mean[c]);
            }
    });
}

template <class T>
int maximum_backward(const T *grad, const T *y, const T *x, const int32_t *which, const int64_t *start, const T *mean,
                     const T *factor, const T *multiplicity, const T *constant, const T *slope, int64_t G, int64_t C,
                     T *grad_x, int64_t threads) {
    return for_each_block(G, threads, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t g = begin; g < end; g++) {
            for (int64_t r = start[g]; r < start[g + 1]; r++) {
                const T *__restrict row = x + r * C, n = multiplicity ? multiplicity[r] : T(1);
                T *__restrict out = grad_x + r * C;
                for (int64_t c = 0; c < C; c++)
                    out[c] = -factor[c] * n * (constant[c] + (row[c] - mean[c]) * slope[c]);
            }
            for (int64_t c = 0, i = g * C; c < C; c++, i++)
                if (y[i] > 0) grad_x[which[i] * C + c] += factor[c] * grad[i];
        }
    });
}

// Value c of a row is kept where bit c of its coins (C / 64 words) is 1.
template <class T> inline T kept(T value, uint64_t word, int64_t bit) { return word >> bit & 1 ? value : T(0); }

template <class T>
int take_rows(const T *x, const int64_t *row, const uint64_t *coins, int64_t P, int64_t C, T *y, int64_t threads) {
    return for_each_block(P, threads, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t p = begin; p < end; p++)
            for (int64_t c = 0; c < C; c += 64) {
                const uint64_t word = coins[(p * C + c) / 64];
                const T *__restrict from = x + row[p] * C + c;
                T *__restrict to = y + p * C + c;
                for (int64_t bit = 0; bit < 64; bit++) to[bit] = 2 * kept(from[bit], word, bit);
            }
    });
}

template <class T>
int add_rows(const T *values, const int64_t *row, const uint64_t *coins, int64_t P, int64_t R, int64_t C, T *sum,
             int64_t threads) {
    const int64_t width = std::max<int64_t>(64, (C + threads - 1) / threads / 64 * 64);  // a thread has its channels
    return for_each((C + width - 1) / width, threads, [=](int64_t piece) {
        const int64_t low = piece * width, count = std::min(C, low + width) - low;
        for (int64_t r = 0; r < R; r++) std::fill_n(sum + r * C + low, count, T(0));
        for (int64_t p = 0; p < P; p++) {
            const T *__restrict value = values + p * C + low;
            T *__restrict out = sum + row[p] * C + low;
            if (!coins)
                for (int64_t c = 0; c < count; c++) out[c] += value[c];
            else
                for (int64_t c = 0; c < count; c += 64)
                    for (int64_t bit = 0; bit < 64; bit++)
                        out[c + bit] += 2 * kept(value[c + bit], coins[(p * C + low + c) / 64], bit);
        }
    });
}

}  // namespace

// ---- What ops/rows.py calls: contiguous arrays. Each returns 0, or 1 if memory ran out.

extern "C" {

// points (B, N, K) words -> row_of (B, N), first (B N, of which R are used) and their number R. Rows count on from cloud
// to cloud; first holds indices into the B N points.
int batch_distinct_points(const uint32_t *points, int64_t B, int64_t N, int64_t K, int64_t *row_of, int64_t *first,
                          int64_t *number, int64_t threads) {
    std::vector<int64_t> distinct(B);
    const int failed = for_each(B, threads, [&](int64_t b) {
        distinct[b] = distinct_points(points + b * N * K, N, K, row_of + b * N, first + b * N);
    });
    int64_t rows = 0;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t n = b * N; n < (b + 1) * N; n++) row_of[n] += rows;
        for (int64_t i = 0; i < distinct[b]; i++) first[rows + i] = first[b * N + i] + b * N;
        rows += distinct[b];
    }
    *number = rows;
    return failed;
}

// index (B, M, S) into row_of (B, N) -> for each centre i of the B M its distinct rows in the order of the index:
// row[start[i]] to row[start[i + 1] - 1], how often each stands there, and i.
int batch_distinct_neighbours(const int64_t *index, const int64_t *row_of, int64_t B, int64_t N, int64_t M, int64_t S,
                              int64_t *row, int64_t *centre, float *multiplicity, int64_t *start, int64_t threads) {
    start[0] = 0;
    const int failed = for_each(B, threads, [=](int64_t b) {
        const int64_t *rows = row_of + b * N;
        const int64_t base = *std::min_element(rows, rows + N);
        std::vector<int64_t> place(*std::max_element(rows, rows + N) - base + 1, -1);  // where a row was last put
        for (int64_t i = b * M; i < (b + 1) * M; i++) {
            const int64_t begin = i * S;
            int64_t end = begin;
            for (int64_t s = begin; s < begin + S; s++) {
                const int64_t neighbour = rows[index[s]];
                int64_t &at = place[neighbour - base];
                if (at < begin) at = end, row[end] = neighbour, multiplicity[end++] = 0;
                multiplicity[at]++;
            }
            start[i + 1] = end - begin;  // for now the number, added up below
        }
    });
    for (int64_t i = 0; i < B * M; i++) {
        const int64_t count = start[i + 1];
        std::copy_n(row + i * S, count, row + start[i]);
        std::copy_n(multiplicity + i * S, count, multiplicity + start[i]);
        std::fill_n(centre + start[i], count, i);
        start[i + 1] = start[i] + count;
    }
    return failed;
}

#define FLOAT_AND_DOUBLE(function) auto *function##_float32 = function<float>; auto *function##_float64 = function<double>;
FLOAT_AND_DOUBLE(statistics)
FLOAT_AND_DOUBLE(normalise_relu)
FLOAT_AND_DOUBLE(normalise_relu_sums)
FLOAT_AND_DOUBLE(normalise_relu_backward)
FLOAT_AND_DOUBLE(maximum)
FLOAT_AND_DOUBLE(maximum_sums)
FLOAT_AND_DOUBLE(maximum_backward)
FLOAT_AND_DOUBLE(take_rows)
FLOAT_AND_DOUBLE(add_rows)
}

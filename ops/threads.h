// Spreads independent pieces of work over threads that are made for a call and joined before it returns: nothing lives
// on that a forked process could miss.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

// Runs work(i) for every i below `pieces` on at most so many threads. Returns 0, or 1 if memory ran out.
template <class Work> int for_each(int64_t pieces, int64_t threads, Work work) {
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{0};
    auto take = [&] {
        try {
            for (int64_t i; (i = next++) < pieces;) work(i);
        } catch (const std::exception &) {  // a vector that could not grow
            failed = 1;
        }
    };
    std::vector<std::thread> helpers;
    try {
        for (int64_t t = 1; t < std::min(threads, pieces); t++) helpers.emplace_back(take);
    } catch (const std::exception &) {  // no more threads to be had: those there are do the work
    }
    take();
    for (auto &helper : helpers) helper.join();
    return failed;
}

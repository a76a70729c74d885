//! Work split over threads so that no result depends on how many there are: every piece is
//! computed alone and the pieces come back in their order.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `work(i)` for `i` in `0..pieces` on at most `threads` threads; results in the order of `i`.
pub(crate) fn map<T: Send>(pieces: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads <= 1 || pieces <= 1 {
        return (0..pieces).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= pieces {
                return done;
            }
            done.push((i, work(i)));
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..threads.min(pieces)).map(|_| scope.spawn(run)).collect();
        let mut all = run();
        for handle in handles {
            match handle.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|&(i, _)| i);
    all.into_iter().map(|(_, result)| result).collect()
}

/// `work(start, chunk)` on consecutive chunks of `size` elements of `data`; `start` is the
/// position of the chunk. Results in order.
pub(crate) fn map_chunks<T: Send, R: Send>(
    data: &mut [T],
    size: usize,
    threads: usize,
    work: impl Fn(usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    let chunks: Vec<_> = data.chunks_mut(size).map(|chunk| std::sync::Mutex::new(Some(chunk))).collect();
    map(chunks.len(), threads, |i| {
        // Taken once: `map` gives every piece to exactly one thread.
        let chunk = chunks[i].lock().map_or(None, |mut slot| slot.take()).unwrap_or_default();
        work(i * size, chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::{map, map_chunks};

    #[test]
    fn results_come_in_order_for_any_number_of_threads() {
        for threads in 1..5 {
            assert_eq!(map(100, threads, |i| i * i), (0..100).map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn chunks_cover_the_data_once() {
        for threads in 1..4 {
            let mut data = vec![1u64; 1003];
            let sums = map_chunks(&mut data, 100, threads, |start, chunk| {
                for (i, value) in chunk.iter_mut().enumerate() {
                    *value += (start + i) as u64;
                }
                chunk.len()
            });
            assert_eq!(sums.iter().sum::<usize>(), 1003);
            assert!(data.iter().enumerate().all(|(i, &v)| v == i as u64 + 1));
        }
    }

    #[test]
    #[should_panic(expected = "piece 3")]
    fn a_panic_in_a_piece_is_not_lost() {
        map(8, 2, |i| assert!(i != 3, "piece {i}"));
    }
}

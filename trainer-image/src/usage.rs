//! Wall time, CPU time and memory of this process.

use std::fs;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Times since a moment.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    wall: Instant,
    clock: ClockId,
    cpu: f64,
}

impl Stopwatch {
    /// Measures the CPU time of all threads.
    pub fn of_process() -> Self {
        Self::of(ClockId::ProcessCPUTime)
    }

    /// Measures the CPU time of the calling thread; stop it in the same one.
    pub fn of_thread() -> Self {
        Self::of(ClockId::ThreadCPUTime)
    }

    fn of(clock: ClockId) -> Self {
        Self { wall: Instant::now(), clock, cpu: seconds(clock) }
    }

    /// Wall seconds since the start.
    pub fn wall_seconds(&self) -> f64 {
        self.wall.elapsed().as_secs_f64()
    }

    /// CPU seconds since the start.
    pub fn cpu_seconds(&self) -> f64 {
        seconds(self.clock) - self.cpu
    }
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Most resident memory so far in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Threads to work with: what the control group grants, at least one.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_memory() {
        let watch = Stopwatch::of_thread();
        let mut sum = 0u64;
        while watch.cpu_seconds() < 0.01 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(watch.wall_seconds() >= 0.009);
        assert!(peak_memory_bytes() > 1 << 20);
    }
}

//! Runs seeds of the simulation and prints how to replay one that fails.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bessemer_simulation::run;
use clap::Parser;

/// Runs the whole cluster in virtual time, once for each seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this one.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, count) =
        arguments.seed.map_or((arguments.first, arguments.seeds), |seed| (seed, 1));
    let (next, failed, began) = (AtomicU64::new(first), AtomicBool::new(false), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - first >= count {
                        return;
                    }
                    let report = run(seed);
                    if report.failure.is_some() {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("{report}");
                    } else if count == 1 {
                        println!("{report}");
                    }
                }
            });
        }
    });
    if failed.load(Ordering::Relaxed) {
        return ExitCode::FAILURE;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    println!(
        "{count} seeds from {first} on: no invariant broken; {seconds:.1} s, {rate:.1} seeds/s"
    );
    ExitCode::SUCCESS
}

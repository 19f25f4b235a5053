//! What a decoder gives up before it reads the first byte of an image.
//!
//! Limits of the system for memory, processor time, file size and open files; and by seccomp every system call that it
//! does not need: it can open no file, reach no network, start no program, look at no other process.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Job;

/// Address space besides that of the workers: Ironic's `image_convert_memory_limit`. Far more than is ever touched, for an
/// allocator reserves more than it uses, and 128 MiB of it may be demanded by an xz or zstd stream.
const ADDRESS_SPACE_BYTES: u64 = 2 << 30;

/// Address space of one worker: its stack, its chunks, and what glibc reserves for each thread.
const WORKER_ADDRESS_SPACE_BYTES: u64 = 192 << 20;

/// Processor time for what does not depend on the size.
const CPU_SECONDS: u64 = 60;

/// What is decoded, hashed and compressed in one second of processor time, at the least: a twentieth of what `xz` does.
const BYTES_PER_CPU_SECOND: u64 = 4 << 20;

/// Files that are open at once: five, the standard ones among them.
const OPEN_FILES: u64 = 16;

/// System calls that a decoder needs. All others fail with `EPERM`.
const ALLOWED: &[i64] = &[
    // Its files and the socket, which are open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_fcntl,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
];

/// Bounds what this process may use, and then what it may ask of the system. Answers what of the latter the system does
/// not offer. The threads that exist already are not confined: there must be none but the caller's.
pub(super) fn confine(job: &Job) -> Result<Option<String>, String> {
    let image_bytes = job.max_image_bytes;
    let workers = job.workers.get() as u64;
    // Frames of what does not compress are a little longer than their chunks.
    let file_bytes = image_bytes.saturating_add((image_bytes >> 8) + (64 << 20));
    for (what, resource, most) in [
        ("core file", Resource::Core, 0),
        ("address space", Resource::As, ADDRESS_SPACE_BYTES + workers * WORKER_ADDRESS_SPACE_BYTES),
        ("processor time", Resource::Cpu, cpu_seconds(image_bytes)),
        ("file size", Resource::Fsize, file_bytes),
        ("open files", Resource::Nofile, OPEN_FILES),
    ] {
        limit(resource, most).map_err(|error| format!("cannot limit {what}: {error}"))?;
    }
    Ok(forbid().err().map(|error| format!("seccomp: {error}")))
}

/// Bounds processor time to what an image of that size needs.
pub(super) fn bound_cpu_time(image_bytes: u64) -> Result<(), String> {
    limit(Resource::Cpu, cpu_seconds(image_bytes))
        .map_err(|error| format!("cannot limit processor time: {error}"))
}

fn cpu_seconds(image_bytes: u64) -> u64 {
    CPU_SECONDS + image_bytes / BYTES_PER_CPU_SECOND
}

/// Sets a limit, for good: a lower one that is there already stays.
fn limit(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

/// Lets the calling thread, and those that it starts, make the system calls of [`ALLOWED`] only.
fn forbid() -> Result<(), Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    // Of this process alone: to bound processor time once the image's size is known.
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![own])?]);
    // What a thread is called.
    let name = libc::PR_SET_NAME as u64;
    let naming = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, name)?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![naming])?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// In a thread of its own, which is all that it holds for. Everything is tried before it too, so that the filter, and
    /// nothing else, is what refuses.
    #[test]
    fn files_the_network_and_programs_are_out_of_reach() {
        let attempts = || {
            [
                ("file", File::open("/proc/self/exe").map(drop)),
                ("new file", tempfile::tempfile().map(drop)),
                ("directory", std::fs::read_dir("/").map(drop)),
                ("TCP", TcpListener::bind("127.0.0.1:0").map(drop)),
                ("UDP", UdpSocket::bind("127.0.0.1:0").map(drop)),
                ("Unix socket", UnixStream::pair().map(drop)),
                ("program", Command::new("/bin/true").status().map(drop)),
            ]
        };
        for (what, outcome) in attempts() {
            outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let confined = std::thread::spawn(move || {
            forbid().unwrap();
            let refused = attempts().map(|(what, outcome)| (what, outcome.unwrap_err().kind()));
            // What it needs it still has.
            let counted = std::thread::spawn(|| vec![1_u64; 1 << 20].iter().sum::<u64>()).join();
            (refused, counted.unwrap())
        });
        let (refused, counted) = confined.join().unwrap();
        for (what, kind) in refused {
            assert_eq!(kind, PermissionDenied, "{what}");
        }
        assert_eq!(counted, 1 << 20);
        // The rest of the process is free.
        assert!(File::open("/proc/self/exe").is_ok());
    }
}

//! The program. What it does is in [`backstitch::cli`].

use std::process::ExitCode;

/// A run is some hundred small allocations that one thread makes and another frees: a quarter of our CPU
/// time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two crates bring a TLS provider each; without a choice the first handshake panics. Fails only if
    // somebody has chosen already, and nobody is before this line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[cfg(feature = "planted")]
    backstitch::planted::from_environment();
    backstitch::cli::main()
}

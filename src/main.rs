//! The program. What it does is in [`backstitch::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two crates bring a TLS provider each; without a choice the first handshake panics. Fails only if
    // somebody has chosen already, and nobody is before this line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    backstitch::cli::main()
}

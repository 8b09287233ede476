//! `backstitch participant`: three small HTTP services (inventory, payments, shipping) in one process,
//! for the demonstration, the tests and the benchmark. Their state is in memory, in a process of its own,
//! so that it outlives an orchestrator that is killed.

mod faults;
mod ledger;
mod server;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

pub use faults::{Fault, Rule};
pub use ledger::{Arrival, ArrivalOutcome, Effect, Report, Service, Summary, duplicates_among};

use super::exit::{Code, Failure, Outcome};
use ledger::Keys;

/// Options of `backstitch participant`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the inventory service; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    inventory: SocketAddr,
    /// Address of the payment service.
    #[arg(long, default_value = "127.0.0.1:0")]
    payments: SocketAddr,
    /// Address of the shipping service.
    #[arg(long, default_value = "127.0.0.1:0")]
    shipping: SocketAddr,
    /// Address of the ledger and of the faults.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Every call takes this long: half before its effect, half after.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay_ms: u64,
    /// Recognise no repeat: the control that must make a check for duplicates fail.
    #[arg(long)]
    ignore_keys: bool,
    /// Answer at once and remember nothing.
    #[arg(long, conflicts_with = "ignore_keys")]
    bench: bool,
    /// End when standard input closes, so that no process stays when the one that started it is killed.
    #[arg(long)]
    with_stdin: bool,
}

/// Where the services listen: the one line that the process prints when it is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addresses {
    pub inventory: SocketAddr,
    pub payments: SocketAddr,
    pub shipping: SocketAddr,
    pub control: SocketAddr,
    pub pid: u32,
}

/// Serves until it is ended.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn run(args: Args) -> Outcome {
    open(args).await.map_err(|(address, error)| {
        Failure::new(Code::Failed, format!("cannot listen on {address}: {error}"))
            .help("choose another port, or 0 for a free one")
    })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), (SocketAddr, std::io::Error)> {
    let listener = TcpListener::bind(address).await.map_err(|error| (address, error))?;
    let local = listener.local_addr().map_err(|error| (address, error))?;
    Ok((listener, local))
}

async fn open(args: Args) -> Result<(), (SocketAddr, std::io::Error)> {
    let behaviour = server::Behaviour {
        keys: if args.ignore_keys { Keys::Ignored } else { Keys::Honoured },
        delay: Duration::from_millis(args.delay_ms),
        bench: args.bench,
    };
    let shared = server::Shared::new(behaviour);
    let mut at = Vec::new();
    for (service, wanted) in Service::ALL.into_iter().zip([args.inventory, args.payments, args.shipping]) {
        let (listener, local) = bind(wanted).await?;
        tokio::spawn(server::serve(shared.clone(), service, listener, local));
        at.push(local);
    }
    let (listener, control) = bind(args.control).await?;
    let addresses = Addresses { inventory: at[0], payments: at[1], shipping: at[2], control, pid: std::process::id() };
    let line = serde_json::to_string(&addresses).map_err(|error| (control, error.into()))?;
    // Whoever waits for this line may have gone; the services are there all the same.
    let _ = writeln!(std::io::stdout(), "{line}");
    let serving = server::serve_control(shared, listener);
    if args.with_stdin {
        let mut byte = [0];
        tokio::select! {
            () = serving => {}
            // Ends at end of file, on an error, and on anything written.
            _ = async { tokio::io::stdin().read(&mut byte).await } => {}
        }
    } else {
        serving.await;
    }
    Ok(())
}

//! `backstitch locks`: who holds which semantic lock, and taking one from a run that is at rest.

use serde_json::json;

use super::exit::Outcome;
use super::output;
use super::{Listing, show};
use crate::coordinator::view::RunView;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the locks: who holds them, who waits.
    List(Listing),
    /// Takes a lock from the run that holds it, which must be parked or paused; the next one in the queue has it.
    Release(ReleaseArgs),
}

#[derive(Debug, clap::Args)]
struct ReleaseArgs {
    /// The lock's name.
    name: String,
    /// Who does it; kept in the run's history.
    #[arg(long)]
    by: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

/// Lists the locks, or releases one.
pub async fn run(args: Args) -> Outcome {
    match args.command {
        None => list(args.listing).await,
        Some(Command::List(listing)) => list(listing).await,
        Some(Command::Release(args)) => release(args).await,
    }
}

async fn list(args: Listing) -> Outcome {
    let locks = args.connection.client()?.locks().await?;
    if args.output.is_json() {
        output::json(&locks)?;
    } else {
        show::locks(&locks)?;
    }
    Ok(())
}

async fn release(args: ReleaseArgs) -> Outcome {
    let body = json!({ "name": args.name, "by": args.by });
    let view: RunView = args.listing.connection.client()?.tell("/api/v1/locks/release", &body).await?;
    if args.listing.output.is_json() {
        output::json(&view)?;
    } else {
        output::line(format!("released: {}; run {} ({}) goes on without it", args.name, view.id, view.state))?;
    }
    Ok(())
}

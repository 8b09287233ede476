//! `backstitch healthcheck`: for containers and scripts.

use http::Method;

use super::Connection;
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output, coloured};

/// Probes give up after a few seconds themselves.
const WAIT: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask whether work is taken, not only whether the process answers.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn run(args: Args) -> Outcome {
    let client = args.connection.client()?;
    if !args.ready {
        let answer = client.request(Method::GET, "/healthz", &[], None, WAIT).await?;
        if !answer.status.is_success() {
            return Err(Failure::new(Code::Failed, format!("{} answers {}", client.url(), answer.status)));
        }
        if args.output.is_json() {
            output::json(&serde_json::json!({ "healthy": true }))?;
        } else {
            output::line(coloured("ok"))?;
        }
        return Ok(());
    }
    let readiness = client.readiness().await?;
    if args.output.is_json() {
        output::json(&readiness)?;
    } else {
        for (name, part) in &readiness.parts {
            let state = if part.ready { "ok" } else { "failed" };
            output::line(format!("{:<8} {:<6} {}", name, coloured(state), part.message))?;
        }
    }
    if readiness.ready { Ok(()) } else { Err(Failure::said(Code::Unreachable)) }
}

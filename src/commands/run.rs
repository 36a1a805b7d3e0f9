//! `run`: the service, from its start to its end.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{Answer, Config, hall, runtime};
use crate::{smtp, smtp::Front};

pub(super) fn run(config: &Config) -> anyhow::Result<Answer> {
    let mut settings = config.load()?;
    let Some(smtp) = settings.smtp.take() else {
        bail!("{}: there is nothing to run; write [smtp] with listen, next_hop and hostname", config.path().display());
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let (mode, entries) = (settings.mode, settings.policy.senders().len());
    // The bound is the hop's own key, so it goes along with the rest.
    settings.smtp = Some(smtp.clone());
    runtime()?.block_on(async {
        let hall = Arc::new(hall(settings, &smtp.hostname)?);
        let listeners = smtp::bind(&smtp.listen).await.map_err(|(address, error)| {
            anyhow::anyhow!("smtp.listen: {address} cannot be bound: {error}; is another program there, or another firstclick?")
        })?;
        for listener in &listeners {
            tracing::info!(address = %listener.local_addr()?, next_hop = smtp.next_hop, ?mode, entries, "listening");
        }
        let mut terminate = signal(SignalKind::terminate()).context("signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        smtp::run(listeners, Arc::new(Front { smtp, hall }), stop).await;
        tracing::info!("stopped");
        Ok(Answer::Yes)
    })
}

//! The resolver: the system's, or the ones that the configuration names.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::MessageAuthenticator;

use crate::limits;

/// No resolver could be set up.
#[derive(Debug, thiserror::Error)]
#[error("the resolver cannot be set up: {0}; name one in [identity] dns, as in dns = [\"127.0.0.1:53\"]")]
pub struct ResolverError(String);

/// Sets up a resolver with a cache. Each query gets half of `deadline`, so that a second try fits into it.
///
/// # Errors
/// Where the system's resolver configuration cannot be read.
pub(super) fn set_up(servers: &[SocketAddr], deadline: Duration) -> Result<MessageAuthenticator, ResolverError> {
    let mut options = ResolverOpts::default();
    options.timeout = (deadline / 2).max(Duration::from_millis(100));
    options.attempts = 2;
    options.cache_size = limits::DNS_CACHE;
    options.edns0 = true;
    let fail = |error: &dyn std::fmt::Display| ResolverError(error.to_string());
    let config = if servers.is_empty() {
        hickory_resolver::system_conf::read_system_conf().map_err(|error| fail(&error))?.0
    } else {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        ResolverConfig::from_parts(None, Vec::new(), servers.collect())
    };
    MessageAuthenticator::new(config, options).map_err(|error| fail(&error))
}

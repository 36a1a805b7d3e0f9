//! Requests for guard links and their responses. Only a POST with the nonce of the page leads on (303); every other response is a
//! page.

use std::{net::IpAddr, slice, sync::Arc};

use axum::{
    Router,
    body::{self, Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use jiff::Timestamp;
use tokio::time::timeout;
use url::{Url, form_urlencoded};

use super::{
    Config, Confirm, HelpDesk, Server, clicks,
    page::{self, After, Ask, Layout, Logo},
};
use crate::{
    audit::pseudonym::Pseudonyms,
    clock,
    edit::{
        guard_link::{GuardLink, OpenError, Opened, SealKey},
        link_id::LinkId,
    },
    limits,
    mail::{
        Record,
        record::{self, ClickKind, ClickRecord, RedactedLink},
    },
    message::{Target, unwrap},
};

#[derive(Clone)]
pub(super) struct Context {
    server: Arc<Server>,
    peer: IpAddr,
}

pub(super) fn router(server: Arc<Server>, peer: IpAddr) -> Router {
    let context = Context { server, peer };
    Router::new()
        .route("/c/{sealed}", any(whole))
        .route("/s/{id}", any(stored))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/style.css", get(style))
        .route("/logo", get(logo))
        .route("/unwrap", any(help_desk))
        .fallback(any(nowhere))
        .layer(middleware::from_fn_with_state(context.clone(), bounded))
        .with_state(context)
}

/// Reads the body before anything is done with the request: [`limits::GUARD_BUFFER`] octets within [`limits::GUARD_BODY`], and a
/// bounded number of requests of one client at a time. hyper closes the connection of a request whose body was not read to its
/// end.
async fn bounded(State(context): State<Context>, request: Request, next: Next) -> Response {
    let config = context.server.current.load_full();
    let refuse = |status| answer(&config, status, "text/plain; charset=utf-8", Vec::new(), None);
    let client = context.client(&config, request.headers());
    let permit = context.server.requests.admit(limits::GUARD_CONNECTIONS).and_then(|mut permit| {
        permit.assign(client, limits::GUARD_CONNECTIONS_PER_CLIENT)?;
        Ok(permit)
    });
    let Ok(_permit) = permit else { return refuse(StatusCode::TOO_MANY_REQUESTS) };
    let (head, body) = request.into_parts();
    match timeout(limits::GUARD_BODY, body::to_bytes(body, limits::GUARD_BUFFER)).await {
        Ok(Ok(octets)) => next.run(Request::from_parts(head, Body::from(octets))).await,
        Ok(Err(_)) => refuse(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Context {
    /// The client's address: the last one in X-Forwarded-For that a trusted proxy wrote, or the peer's.
    fn client(&self, config: &Config, headers: &HeaderMap) -> IpAddr {
        if !config.proxies.iter().any(|proxy| proxy.contains(self.peer)) {
            return self.peer;
        }
        let forwarded = text(headers, "x-forwarded-for").split(',').filter_map(|item| item.trim().parse::<IpAddr>().ok());
        let addresses: Vec<IpAddr> = forwarded.map(|address| address.to_canonical()).collect();
        addresses.into_iter().rev().find(|address| !config.proxies.iter().any(|proxy| proxy.contains(*address))).unwrap_or(self.peer)
    }

    fn layout<'f>(&'f self, config: &'f Config, headers: &HeaderMap) -> Option<Layout<'f>> {
        let (language, words) = self.server.languages.choose(text(headers, "accept-language"))?;
        let logo = if config.logo.is_some() { Logo::Shown } else { Logo::None };
        Some(Layout { language, words, logo, note: &config.note })
    }

    fn page(
        &self,
        config: &Config,
        headers: &HeaderMap,
        status: StatusCode,
        towards: Option<&str>,
        write: impl FnOnce(Layout<'_>) -> String,
    ) -> Response {
        let Some(layout) = self.layout(config, headers) else { return status.into_response() };
        answer(config, status, "text/html; charset=utf-8", write(layout).into_bytes(), towards)
    }
}

/// A response that is not cached, framed or given a referrer. `towards` is the origin to which a form may lead.
fn answer(config: &Config, status: StatusCode, kind: &'static str, body: Vec<u8>, towards: Option<&str>) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    // Browsers hold a form's redirect to `form-action`, so the page names where its button leads, and nothing else.
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {}; frame-ancestors 'none'; base-uri 'none'",
        towards.unwrap_or_default()
    );
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if config.guard_links.url.starts_with("https:") {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

async fn style(State(context): State<Context>) -> Response {
    answer(&context.server.current.load(), StatusCode::OK, "text/css; charset=utf-8", page::STYLE.into(), None)
}

async fn logo(State(context): State<Context>) -> Response {
    let config = context.server.current.load();
    match &config.logo {
        Some(logo) => answer(&config, StatusCode::OK, logo.kind, logo.octets.clone(), None),
        None => answer(&config, StatusCode::NOT_FOUND, "text/plain", Vec::new(), None),
    }
}

async fn nowhere(State(context): State<Context>, headers: HeaderMap) -> Response {
    let config = context.server.current.load_full();
    context.page(&config, &headers, StatusCode::NOT_FOUND, None, page::gone)
}

/// The fields of a request for a guard link.
struct Asked {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    now: Timestamp,
}

/// GET, HEAD and POST of a guard link that holds its sealed value.
async fn whole(State(context): State<Context>, Path(value): Path<String>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let config = context.server.current.load_full();
    if !context.server.admits(context.client(&config, &headers)) {
        return too_many(&config);
    }
    let asked = Asked { method, headers, body, now: clock::now() };
    let opened = config.guard_links.open(&value, asked.now);
    link(&context, &config, &value, opened, &asked)
}

/// GET, HEAD and POST of a guard link whose value is stored under its name.
async fn stored(State(context): State<Context>, Path(name): Path<String>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let config = context.server.current.load_full();
    if !context.server.admits(context.client(&config, &headers)) {
        return too_many(&config);
    }
    let found = match config.links.as_ref().zip(LinkId::parse(&name)) {
        Some((links, id)) => links.find(id).await,
        None => Ok(None),
    };
    let asked = Asked { method, headers, body, now: clock::now() };
    match found {
        Ok(Some(found)) => link(&context, &config, &found.value, config.guard_links.open_stored(&found, asked.now), &asked),
        Ok(None) => link(&context, &config, "", Err(OpenError::Foreign), &asked),
        Err(error) => {
            tracing::error!(%error, "a guard link was not looked up");
            answer(&config, StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", b"please try again in a minute\n".to_vec(), None)
        }
    }
}

fn too_many(config: &Config) -> Response {
    answer(config, StatusCode::TOO_MANY_REQUESTS, "text/plain; charset=utf-8", b"too many requests\n".to_vec(), None)
}

/// The response for a guard link, whether it opened or not: GET and HEAD show the page, POST leads on. `value` is the sealed
/// value.
fn link(context: &Context, config: &Config, value: &str, opened: Result<Opened<'_>, OpenError>, asked: &Asked) -> Response {
    let Asked { method, headers, body, now } = asked;
    let now = *now;
    let Opened { link: sealed, key } = match opened {
        Ok(opened) => opened,
        Err(OpenError::Foreign) => return context.page(config, headers, StatusCode::NOT_FOUND, None, page::gone),
        Err(OpenError::Expired) => return context.page(config, headers, StatusCode::GONE, None, page::expired),
    };
    // The one-time link is a web link; if it were not, the response would lead nowhere.
    let Some((host, origin)) = destination(&sealed.link) else {
        return context.page(config, headers, StatusCode::NOT_FOUND, None, page::gone);
    };
    let names = names(config, &sealed, value);
    let show = |after: After| {
        let nonce = nonce(config, value, now);
        context.page(config, headers, StatusCode::OK, Some(&origin), |layout| {
            let ask = match config.confirm {
                Confirm::Press => Ask::Press,
                Confirm::Choose => Ask::Choose { names: &names, after },
            };
            page::guard(layout, &sealed.author, &host, &nonce, ask)
        })
    };
    let purpose = [text(headers, "purpose"), text(headers, "sec-purpose")].concat();
    let on_record = |kind: ClickKind| {
        let request = clicks::Request {
            method: method.as_str(),
            address: context.client(config, headers),
            user_agent: text(headers, "user-agent"),
            accept_language: text(headers, "accept-language"),
            purpose: &purpose,
        };
        record_click(context, config, &sealed, redacted(&sealed, key), request, kind, now);
    };
    if *method == Method::GET || *method == Method::HEAD {
        on_record(ClickKind::Open);
        return show(After::Nothing);
    }
    if *method != Method::POST {
        let mut response = answer(config, StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", Vec::new(), None);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        return response;
    }
    // The browser itself marks a POST from a page of another site, and that page has no nonce of this link.
    let site = text(headers, "sec-fetch-site");
    let field =
        |name: &str| form_urlencoded::parse(body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default();
    if !(site.is_empty() || site == "same-origin") || !is_own_nonce(config, value, &field("nonce"), now) {
        on_record(ClickKind::Refused);
        return show(After::Nothing);
    }
    if config.confirm == Confirm::Choose {
        let chosen = field("choice").parse::<usize>().ok().and_then(|number| names.get(number));
        if chosen != Some(&sealed.author) {
            on_record(ClickKind::WrongAnswer);
            return show(After::WrongAnswer);
        }
    }
    on_record(ClickKind::Press);
    let mut response = answer(config, StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Vec::new(), Some(&origin));
    match HeaderValue::from_str(&sealed.link) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => context.page(config, headers, StatusCode::NOT_FOUND, None, page::gone),
    }
}

/// The host as a browser writes it, in ASCII, and the origin; none where the link is no web link.
fn destination(link: &str) -> Option<(String, String)> {
    let url = Url::parse(link).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?.to_owned();
    let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    Some((host, url.origin().ascii_serialization()))
}

/// The one-time link as the mail's record names it.
fn redacted(sealed: &GuardLink, key: &SealKey) -> Option<RedactedLink> {
    let Target::Web(link) = Target::read(&sealed.link) else { return None };
    Some(RedactedLink { link: link.redacted(), hash: Some(key.link_hashes().fingerprint(link.expose())) })
}

/// Writes the record of a click, its line in the log, and counts it.
fn record_click(
    context: &Context,
    config: &Config,
    sealed: &GuardLink,
    link: Option<RedactedLink>,
    request: clicks::Request<'_>,
    kind: ClickKind,
    now: Timestamp,
) {
    let (likely, why) = clicks::likely(request, sealed.at, now);
    let mut user_agent = request.user_agent.escape_debug().to_string();
    user_agent.truncate(user_agent.floor_char_boundary(limits::LOGGED_PATH));
    let mut click = ClickRecord {
        v: record::VERSION,
        time: now,
        id: sealed.mail.clone(),
        what: kind.into(),
        entry: sealed.entry.clone(),
        to: sealed.recipient.clone(),
        link,
        after_s: now.as_second() - sealed.at.as_second(),
        address: request.address,
        user_agent,
        likely: likely.into(),
        why,
    };
    Pseudonyms::by(&config.recipient_keys).mask(slice::from_ref(&sealed.recipient)).click(&mut click);
    tracing::info!(id = click.id, kind = kind.code(), client = %click.address, after_s = click.after_s, likely = likely.code(), why = click.why, "guard link");
    context.server.metrics.click(kind);
    if let Some(audit) = &context.server.audit {
        audit.append_aside(&Record::Click(click));
    }
}

/// The sender and two others, in an order by which a program cannot find the sender.
fn names(config: &Config, sealed: &GuardLink, value: &str) -> Vec<String> {
    let rank = |name: &str| config.nonces.fingerprint(&format!("{value} {name}"));
    let mut others: Vec<&String> = config.others.iter().filter(|name| **name != sealed.author).collect();
    others.sort_by_key(|name| rank(name));
    let mut names: Vec<String> = others.into_iter().take(2).cloned().chain([sealed.author.clone()]).collect();
    names.sort_by_key(|name| rank(&format!("{name} order")));
    names
}

/// The nonce of the form: the time, with a keyed hash of it and the link.
fn nonce(config: &Config, value: &str, now: Timestamp) -> String {
    let at = now.as_second();
    format!("{at}.{}", config.nonces.fingerprint(&format!("nonce {at} {value}")))
}

fn is_own_nonce(config: &Config, value: &str, nonce: &str, now: Timestamp) -> bool {
    let Some((at, mark)) = nonce.split_once('.') else { return false };
    let Ok(seconds) = at.parse::<i64>() else { return false };
    let age = now.as_second().saturating_sub(seconds);
    let expected = config.nonces.fingerprint(&format!("nonce {seconds} {value}"));
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), mark.as_bytes()).is_ok();
    same && (0..=NONCE_LIFE).contains(&age)
}

/// Seconds that a page may be open before its button is pressed: a working day.
const NONCE_LIFE: i64 = 12 * 3_600;

/// GET and POST of the help desk's page, which unwraps a scanner's link.
async fn help_desk(State(context): State<Context>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let config = context.server.current.load_full();
    if config.help_desk == HelpDesk::Closed {
        return context.page(&config, &headers, StatusCode::NOT_FOUND, None, page::gone);
    }
    if !context.server.admits(context.client(&config, &headers)) {
        return too_many(&config);
    }
    let link = if method == Method::POST {
        form_urlencoded::parse(&body).find(|(key, _)| key == "link").map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    } else {
        String::new()
    };
    let lines: Vec<(String, String)> = if link.is_empty() { Vec::new() } else { unwrap::told(&link) };
    context.page(&config, &headers, StatusCode::OK, None, |layout| page::help_desk(layout, &link, &lines))
}

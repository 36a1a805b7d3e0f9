//! A DNS zone, served in this process.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_server::{
    Server,
    net::runtime::Time,
    proto::{
        op::{Metadata, ResponseCode},
        rr::{
            Name, RData, Record, RecordType,
            rdata::{MX, PTR, TXT},
        },
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

/// A server that answers questions from a table; every other name does not exist. It ends with its last handle.
#[derive(Clone)]
pub struct Zone {
    texts: Texts,
    address: SocketAddr,
    _server: Arc<Server<Answers>>,
}

type Texts = Arc<Mutex<HashMap<String, Text>>>;

#[derive(Clone)]
enum Text {
    Says(Vec<String>),
    Holds(Vec<RData>),
    Fails,
    Silent,
}

struct Answers(Texts);

impl Zone {
    /// Starts serving on a free port of loopback, by UDP and TCP.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn serve() -> io::Result<Self> {
        let texts = Texts::default();
        // The same port for both: TCP first, because it is the one that may be taken.
        let mut tries = 0;
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            match UdpSocket::bind(listener.local_addr()?).await {
                Ok(socket) => break (listener, socket),
                Err(error) if tries > 20 => return Err(error),
                Err(_) => tries += 1,
            }
        };
        let address = listener.local_addr()?;
        let mut server = Server::new(Answers(Arc::clone(&texts)));
        server.register_socket(socket);
        server.register_listener(listener, Duration::from_secs(5), 4_096);
        Ok(Self { texts, address, _server: Arc::new(server) })
    }

    /// Where to ask.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes a text.
    pub fn publish(&self, name: &str, text: impl Into<String>) {
        self.set(name, Text::Says(vec![text.into()]));
    }

    /// Publishes several texts under one name.
    pub fn publish_several(&self, name: &str, texts: &[&str]) {
        self.set(name, Text::Says(texts.iter().map(|text| (*text).to_owned()).collect()));
    }

    /// Publishes nothing under a name any more.
    pub fn withdraw(&self, name: &str) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).remove(&format!("{}.", name.to_lowercase()));
    }

    /// Answers SERVFAIL for a name from now on.
    pub fn fail(&self, name: &str) {
        self.set(name, Text::Fails);
    }

    /// Gives no answer about a name from now on.
    pub fn silence(&self, name: &str) {
        self.set(name, Text::Silent);
    }

    /// Publishes a host's addresses.
    pub fn publish_addresses(&self, host: &str, addresses: &[&str]) {
        let records = addresses.iter().filter_map(|address| address.parse().ok()).map(|address| match address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        });
        self.add(host, records.collect());
    }

    /// Publishes the hosts that take a domain's mail, the preferred one first.
    pub fn publish_exchanges(&self, domain: &str, hosts: &[&str]) {
        let names = hosts.iter().filter_map(|host| Name::from_ascii(format!("{host}.")).ok());
        self.add(domain, (0..).zip(names).map(|(preference, name)| RData::MX(MX::new(preference, name))).collect());
    }

    /// Publishes the names that an address' network gives it.
    pub fn publish_names(&self, address: IpAddr, hosts: &[&str]) {
        let names = hosts.iter().filter_map(|host| Name::from_ascii(format!("{host}.")).ok());
        let at = Name::from(address).to_ascii();
        self.add(at.trim_end_matches('.'), names.map(|name| RData::PTR(PTR(name))).collect());
    }

    /// Puts records beside the texts of a name.
    fn add(&self, name: &str, records: Vec<RData>) {
        self.set(&format!("{name}. "), Text::Holds(records));
    }

    fn set(&self, name: &str, text: Text) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{}.", name.to_lowercase()), text);
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.recursion_available = true;
        let mut answers = Vec::new();
        match request.request_info() {
            Ok(info) => {
                let name = info.query.name().to_string().to_lowercase();
                let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (text, held) = (table.get(&name).cloned(), table.get(&format!("{name} .")).cloned());
                drop(table);
                if let Some(Text::Holds(records)) = &held {
                    let asked = records.iter().filter(|data| data.record_type() == info.query.query_type());
                    answers.extend(asked.map(|data| Record::from_rdata(info.query.original().name().clone(), 60, data.clone())));
                }
                match text {
                    Some(Text::Says(texts)) if info.query.query_type() == RecordType::TXT => {
                        for text in texts {
                            // RFC 1035 section 3.3.14: strings of at most 255 octets, which readers join.
                            let pieces: Vec<String> =
                                text.as_bytes().chunks(255).map(|piece| piece.iter().map(|byte| char::from(*byte)).collect()).collect();
                            answers.push(Record::from_rdata(info.query.original().name().clone(), 60, RData::TXT(TXT::new(pieces))));
                        }
                    }
                    Some(Text::Says(_) | Text::Holds(_)) => {}
                    Some(Text::Silent) => return metadata.into_info(),
                    None if held.is_some() => {}
                    Some(Text::Fails) => metadata.response_code = ResponseCode::ServFail,
                    None => metadata.response_code = ResponseCode::NXDomain,
                }
            }
            Err(_) => metadata.response_code = ResponseCode::FormErr,
        }
        let nothing = || std::iter::empty::<&Record>();
        let message = MessageResponseBuilder::from_message_request(request).build(metadata, &answers, nothing(), nothing(), nothing());
        response.send_response(message).await.unwrap_or_else(|_| Metadata::response_from_request(&request.metadata).into_info())
    }
}

/// What is reported of an answer that could not be sent.
trait IntoInfo {
    fn into_info(self) -> ResponseInfo;
}

impl IntoInfo for Metadata {
    fn into_info(mut self) -> ResponseInfo {
        self.response_code = ResponseCode::ServFail;
        hickory_server::proto::op::Header { metadata: self, counts: hickory_server::proto::op::HeaderCounts::default() }.into()
    }
}

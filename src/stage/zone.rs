//! A DNS zone, served in this process.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_server::{
    Server,
    net::runtime::Time,
    proto::{
        op::{Metadata, ResponseCode},
        rr::{RData, Record, RecordType, rdata::TXT},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

/// A server that answers TXT questions from a table; every other name does not exist. It ends with its last handle.
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
    Fails,
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
                let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
                match text {
                    Some(Text::Says(texts)) if info.query.query_type() == RecordType::TXT => {
                        for text in texts {
                            // RFC 1035 section 3.3.14: strings of at most 255 octets, which readers join.
                            let pieces: Vec<String> =
                                text.as_bytes().chunks(255).map(|piece| piece.iter().map(|byte| char::from(*byte)).collect()).collect();
                            answers.push(Record::from_rdata(info.query.original().name().clone(), 60, RData::TXT(TXT::new(pieces))));
                        }
                    }
                    Some(Text::Says(_)) => {}
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

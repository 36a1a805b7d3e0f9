//! An MTA's side of the milter protocol, as Postfix plays it: it tells a mail, and does what the milter asks.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

pub(crate) struct Mta {
    stream: Box<dyn Both>,
}

/// What became of a mail.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The mail after the changes.
    pub(crate) mail: Vec<u8>,
    /// The letter of the last answer.
    pub(crate) verdict: char,
    /// Octets of the body that were sent.
    pub(crate) body_sent: usize,
    /// How often the milter said that it is still at it.
    pub(crate) progress: usize,
}

/// How a mail is told.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) client: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a [&'a str],
    /// Octets of the body in one frame.
    pub(crate) piece: usize,
}

/// A full offer of version 6.
pub(crate) const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

pub(crate) fn frame(letter: u8, rest: &[u8]) -> Vec<u8> {
    [&u32::try_from(rest.len() + 1).unwrap().to_be_bytes()[..], &[letter], rest].concat()
}

impl Mta {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream) }
    }

    /// Sends octets; a milter that is gone shows in the answer that does not come.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// The next answer: its letter and the rest. None where the milter hung up.
    pub(crate) async fn answer(&mut self) -> Option<(char, Vec<u8>)> {
        let mut length = [0; 4];
        timeout(PATIENCE, self.stream.read_exact(&mut length)).await.expect("an answer comes").ok()?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        timeout(PATIENCE, self.stream.read_exact(&mut frame)).await.expect("an answer comes").ok()?;
        Some((char::from(frame[0]), frame.split_off(1)))
    }

    /// Negotiates and tells of a client.
    pub(crate) async fn greet(&mut self, client: &str) {
        self.negotiate(OFFER).await.expect("it agrees");
        self.raw(&frame(b'C', format!("client.test\x004\x00\x19{client}\0").as_bytes())).await;
        self.raw(&frame(b'H', b"client.test\0")).await;
    }

    pub(crate) async fn negotiate(&mut self, offer: [u32; 3]) -> Option<[u32; 3]> {
        self.raw(&frame(b'O', &offer.map(u32::to_be_bytes).concat())).await;
        let (letter, rest) = self.answer().await?;
        assert_eq!(letter, 'O');
        let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        Some([number(0), number(4), number(8)])
    }

    /// Tells a mail from MAIL to its end, and changes it as asked.
    pub(crate) async fn mail(&mut self, way: Way<'_>, mail: &[u8]) -> Told {
        self.raw(&frame(b'M', format!("{}\0", way.from).as_bytes())).await;
        for to in way.to {
            self.raw(&frame(b'R', format!("{to}\0").as_bytes())).await;
        }
        self.raw(&frame(b'D', b"Ni\0ABC123DEF\0")).await;
        let (mut fields, body) = fields(mail);
        let mut new_body: Option<Vec<u8>> = None;
        for (name, value) in &fields {
            self.raw(&frame(b'L', &[name, &b"\0"[..], value, b"\0"].concat())).await;
        }
        self.raw(&frame(b'N', b"")).await;
        let mut told = Told::default();
        let (mut letter, _) = self.answer().await.expect("an answer to the end of the header");
        for piece in body.chunks(way.piece.max(1)) {
            if letter != 'c' {
                break;
            }
            self.raw(&frame(b'B', piece)).await;
            told.body_sent += piece.len();
            letter = self.answer().await.expect("an answer to a piece").0;
        }
        if matches!(letter, 'c' | 's') {
            self.raw(&frame(b'E', b"")).await;
            loop {
                let (next, rest) = self.answer().await.expect("an answer to the end");
                letter = next;
                let number = || usize::try_from(u32::from_be_bytes(rest[..4].try_into().unwrap())).unwrap();
                let texts = || {
                    let (name, value) = rest[4..].split_at(rest[4..].iter().position(|byte| *byte == 0).unwrap());
                    (name.to_vec(), value[1..value.len() - 1].to_vec())
                };
                match letter {
                    'p' => told.progress += 1,
                    'b' => new_body.get_or_insert_default().extend(rest),
                    'i' => fields.insert(number(), texts()),
                    'm' => {
                        let (name, value) = texts();
                        assert!(value.is_empty(), "a field is deleted");
                        let same = (0..fields.len()).filter(|at| fields[*at].0.eq_ignore_ascii_case(&name)).nth(number() - 1);
                        fields.remove(same.expect("the field is there"));
                    }
                    _ => break,
                }
            }
        }
        told.verdict = letter;
        for (name, value) in fields {
            told.mail.extend([&name[..], b":", &crlf(&value), b"\r\n"].concat());
        }
        told.mail.extend([b"\r\n", new_body.as_deref().unwrap_or(body)].concat());
        told
    }
}

/// A name and a value.
type Field = (Vec<u8>, Vec<u8>);

/// The header's fields, lines of a folded one with LF between them, and the body. As with MTAs, a line that is no field
/// ends the header, and the body begins with it.
fn fields(mail: &[u8]) -> (Vec<Field>, &[u8]) {
    let mut fields: Vec<Field> = Vec::new();
    let mut at = 0;
    for whole in mail.split_inclusive(|byte| *byte == b'\n') {
        let line = whole.strip_suffix(b"\r\n").unwrap_or(whole);
        if line.is_empty() {
            at += whole.len();
            break;
        }
        if let (Some(b' ' | b'\t'), Some((_, value))) = (line.first(), fields.last_mut()) {
            value.push(b'\n');
            value.extend(line);
        } else if let Some(colon) = line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0 && line[0].is_ascii_graphic()) {
            fields.push((line[..colon].to_vec(), line[colon + 1..].to_vec()));
        } else {
            break;
        }
        at += whole.len();
    }
    (fields, &mail[at..])
}

fn crlf(value: &[u8]) -> Vec<u8> {
    value.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect()
}

//! The files of an audit: which there are, what days they hold, and their lines, compressed or not.
//!
//! A file is `audit-YYYYMMDD.jsonl`, with `.1` and the like behind it where it was put aside, and `.gz` or `.zst` where it was
//! compressed. The name is the day (UTC) on which the file was begun, or a later one that the clock had reached before it stepped
//! back. So no record is younger than the day of its file, but by a wrong clock it may be older.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};
use ruzstd::decoding::StreamingDecoder;
use serde::Deserialize;

use super::chain;
use crate::{limits, regular};

/// How the octets of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

/// A file of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    path: PathBuf,
    day: Date,
    packing: Packing,
}

/// An error of the system about one file of an audit.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.file_name().unwrap_or_default().display())]
pub(super) struct FileError {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

impl FileError {
    /// The error as one of the system, with the file's name.
    pub(super) fn of(path: &Path, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self { path: path.to_owned(), error })
    }
}

/// What the writer of an audit in this folder must be able to read and write, whoever made it, as far as it is there: the lock, the
/// head file and its successor, and the files of the newest day, of which one is gone on with. Nothing of it is read.
#[must_use]
pub fn in_use(folder: &Path, head: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| AuditFile::at(entry.ok()?.path()));
    let plain: Vec<AuditFile> = files.filter(|file| file.packing == Packing::Plain).collect();
    let newest = plain.iter().map(AuditFile::day).max();
    let mut paths = vec![folder.join(LOCK), head.to_owned(), head.with_added_extension("tmp")];
    paths.extend(plain.into_iter().filter(|file| Some(file.day) == newest).map(|file| file.path));
    paths.retain(|path| fs::symlink_metadata(path).is_ok());
    paths
}

/// The name of the file whose lock the writer holds.
pub(super) const LOCK: &str = "audit.lock";

/// The audit files of a folder, by the days in their names; several of one day by the number of their first record. The order of
/// records is that of their numbers alone.
///
/// A compressed copy of a file that is there, too, is left out: a crash came between compressing and removing.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<AuditFile>> {
    let mut files: Vec<AuditFile> = fs::read_dir(folder)?.filter_map(|entry| AuditFile::at(entry.ok()?.path())).collect();
    files.sort_by(|one, two| (one.day, one.packing, &one.path).cmp(&(two.day, two.packing, &two.path)));
    let mut listed = Vec::with_capacity(files.len());
    for of_one_day in files.chunk_by(|one, two| one.day == two.day) {
        if let [file] = of_one_day {
            listed.push(file.clone());
            continue;
        }
        let mut firsts: Vec<(Option<u64>, Vec<u8>, AuditFile)> = Vec::new();
        for file in of_one_day {
            let first = file.first_line();
            let is_copy = |other: &(Option<u64>, Vec<u8>, AuditFile)| other.2.packing < file.packing && other.1 == first;
            if first.is_empty() || !firsts.iter().any(is_copy) {
                firsts.push((chain::number(&first), first, file.clone()));
            }
        }
        firsts.sort_by_key(|(number, ..)| *number);
        listed.extend(firsts.into_iter().map(|(.., file)| file));
    }
    Ok(listed)
}

impl AuditFile {
    /// The audit file of this path; none where its name is no audit file's.
    #[must_use]
    pub fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_prefix("audit-")?;
        let (name, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
            (Some(name), _) => (name, Packing::Gzip),
            (_, Some(name)) => (name, Packing::Zstd),
            _ => (name, Packing::Plain),
        };
        let (day, aside) = name.split_once(".jsonl")?;
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if day.len() != 8 || !is_digits(day) || !(aside.is_empty() || aside.strip_prefix(['.', '-']).is_some_and(is_digits)) {
            return None;
        }
        let day = Date::strptime("%Y%m%d", day).ok()?;
        Some(Self { path, day, packing })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name, without its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The day in its name.
    #[must_use]
    pub const fn day(&self) -> Date {
        self.day
    }

    /// How it is packed.
    #[must_use]
    pub const fn packing(&self) -> Packing {
        self.packing
    }

    /// Its lines, from the first on.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn lines(&self) -> io::Result<Lines> {
        let opened = match regular::open(&self.path) {
            // Compressed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.packing == Packing::Plain => {
                let packed = Self { path: self.path.with_extension("jsonl.gz"), packing: Packing::Gzip, ..self.clone() };
                return if packed.path.exists() { packed.lines() } else { Err(error) };
            }
            opened => opened?,
        };
        let file = BufReader::with_capacity(BUFFER, opened);
        let reader: Box<dyn BufRead + Send> = match self.packing {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
            Packing::Zstd => Box::new(BufReader::with_capacity(BUFFER, Frames { rest: Some(file), frame: None })),
        };
        Ok(Lines { reader, ended: true })
    }

    /// Whether it can hold records between two times, without reading more than some places of it. Where that cannot be told it may.
    ///
    /// A name proves nothing by itself: a clock that was wrong leaves records of any time in a file. So a file is left unread only
    /// where the hop's own gzip says between which times its records are, or where its first and last record and those at places
    /// between, a small part of it apart, are of the day in its name. What somebody else compressed is always read.
    #[must_use]
    pub fn may_hold(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
        let meets = |(oldest, newest): (Timestamp, Timestamp)| {
            since.is_none_or(|since| since <= newest) && until.is_none_or(|until| oldest <= until)
        };
        let Some(by_name) = self.days() else { return true };
        meets(by_name) || self.span(by_name).is_none_or(meets)
    }

    /// The times that its name speaks of. A record is of the time of its decision, and was written up to some minutes later.
    fn days(&self) -> Option<(Timestamp, Timestamp)> {
        let begun = TimeZone::UTC.to_timestamp(self.day.to_datetime(Time::midnight())).ok()?;
        Some((begun.checked_sub(SLACK).ok()?, begun.checked_add(SLACK * 2).ok()?))
    }

    /// Between which times its records are, where that is known.
    fn span(&self, by_name: (Timestamp, Timestamp)) -> Option<(Timestamp, Timestamp)> {
        let mut file = regular::open(&self.path).ok()?;
        match self.packing {
            Packing::Gzip => {
                let packed = MultiGzDecoder::new(BufReader::new(file));
                let (oldest, newest) = std::str::from_utf8(packed.header()?.comment()?).ok()?.split_once(' ')?;
                Some((oldest.parse().ok()?, newest.parse().ok()?))
            }
            Packing::Zstd => None,
            Packing::Plain => {
                let is_of_day = |time: Timestamp| (by_name.0..=by_name.1).contains(&time);
                let length = file.metadata().ok()?.len();
                let first = time(&self.first_line())?;
                let last = time(&last_line(&mut file).ok()?)?;
                let places = if length > END { 1..PLACES } else { 0..0 };
                let mut all = places.map(|place| time_at(&mut file, length / PLACES * place)).chain([Some(first), Some(last)]);
                all.all(|time| time.is_some_and(is_of_day)).then_some(by_name)
            }
        }
    }

    /// Its first record, as the chain reads it.
    pub(super) fn first_record(&self) -> Option<chain::Linked> {
        chain::Linked::read(&self.first_line())
    }

    fn first_line(&self) -> Vec<u8> {
        self.lines().ok().and_then(|mut lines| lines.next()?.ok()).unwrap_or_default()
    }
}

impl fmt::Display for AuditFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The time of a record; none where the line has none.
#[must_use]
pub fn time(line: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Timed<'a> {
        #[serde(borrow)]
        time: &'a str,
    }
    serde_json::from_slice::<Timed<'_>>(line).ok()?.time.parse().ok()
}

/// The last line of a plain file, where it has its line end and is not longer than [`END`].
fn last_line(file: &mut File) -> io::Result<Vec<u8>> {
    let (_, end) = regular::end(file, END)?;
    let Some(end) = end.strip_suffix(b"\n") else { return Ok(Vec::new()) };
    Ok(end.rsplit(|byte| *byte == b'\n').next().unwrap_or_default().to_vec())
}

/// The time of the first whole record behind this place of a plain file.
fn time_at(file: &mut File, place: u64) -> Option<Timestamp> {
    file.seek(SeekFrom::Start(place)).ok()?;
    let mut piece = Vec::new();
    file.take(END).read_to_end(&mut piece).ok()?;
    let mut lines = piece.split(|byte| *byte == b'\n');
    lines.next();
    time(lines.next()?)
}

/// Places of a plain file at which its times are looked at.
const PLACES: u64 = 16;
/// Octets of a file's end that are looked at for its last line; most lines have some 1,000.
const END: u64 = 64 << 10;
/// Octets that are read at one time.
const BUFFER: usize = 64 << 10;
/// A day: what a name says is true to the day, and what a record says to some minutes.
const SLACK: SignedDuration = SignedDuration::from_hours(24);

/// The lines of a file, without their ends. Of a line that is longer than any record only the first octets are given.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    ended: bool,
}

impl Lines {
    /// Whether the line that was given last has its line end. The last one of a file may lack it: it is being written, or a crash
    /// cut it short.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }
}

impl Iterator for Lines {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        self.ended = true;
        match (&mut self.reader).take(limits::AUDIT_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
            }
            Ok(_) => {
                // The rest of what is no record.
                let mut rest = Vec::new();
                loop {
                    rest.clear();
                    match (&mut self.reader).take(BUFFER as u64).read_until(b'\n', &mut rest) {
                        Ok(0) => {
                            self.ended = false;
                            break;
                        }
                        Ok(_) if rest.last() == Some(&b'\n') => break,
                        Ok(_) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(line))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// The frames of a zstd file, one after another; the decoder knows one.
struct Frames<R: BufRead> {
    rest: Option<R>,
    frame: Option<Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>>,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(into)?;
                if read > 0 || into.is_empty() {
                    return Ok(read);
                }
                self.rest = self.frame.take().map(|frame| frame.into_inner());
            }
            let Some(mut rest) = self.rest.take() else { return Ok(0) };
            if rest.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            self.frame = Some(Box::new(frame));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use tempfile::TempDir;

    use super::*;

    fn line(time: &str, number: u64) -> String {
        format!("{{\"type\":\"start\",\"v\":1,\"time\":\"{time}\",\"version\":\"1\",\"torn\":false,\"prev\":\"x\",\"n\":{number}}}\n")
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    fn text(file: &AuditFile) -> String {
        file.lines().unwrap().map(|line| String::from_utf8(line.unwrap()).unwrap() + "\n").collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        list(folder).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_read_strictly() {
        for (name, packing) in [
            ("audit-20261124.jsonl", Some(Packing::Plain)),
            ("audit-20261124.jsonl.1", Some(Packing::Plain)),
            ("audit-20261124.jsonl-20261125", Some(Packing::Plain)),
            ("audit-20261124.jsonl.gz", Some(Packing::Gzip)),
            ("audit-20261124.jsonl.2.gz", Some(Packing::Gzip)),
            ("audit-20261124.jsonl.zst", Some(Packing::Zstd)),
            ("audit-20261324.jsonl", None),
            ("audit-2026112.jsonl", None),
            ("audit-20261124.jsonl.gz.tmp", None),
            ("audit-20261124.jsonl.gz~", None),
            ("audit-20261124.jsonlx", None),
            ("audit.lock", None),
        ] {
            assert_eq!(AuditFile::at(name.into()).map(|file| file.packing), packing, "{name}");
        }
    }

    #[test]
    fn a_file_reads_the_same_however_it_is_packed() {
        let folder = TempDir::new().unwrap();
        let all: String = (1..2_000).map(|number| line("2026-11-24T00:00:00Z", number)).collect();
        let (one, two) = all.split_at(all.len() / 2);
        let zstd = |text: &str| ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        for (day, octets) in [
            ("20261121.jsonl", all.clone().into_bytes()),
            ("20261122.jsonl.gz", gzip(&all)),
            ("20261123.jsonl.gz", [gzip(one), gzip(two)].concat()),
            ("20261124.jsonl.zst", zstd(&all)),
            ("20261125.jsonl.zst", [zstd(one), zstd(two)].concat()),
        ] {
            fs::write(folder.path().join(format!("audit-{day}")), octets).unwrap();
        }
        let files = list(folder.path()).unwrap();
        assert_eq!(files.len(), 5);
        for file in files {
            assert!(text(&file) == all, "{file}");
        }
        let cut = gzip(&all);
        let path = folder.path().join("audit-20261122.jsonl.gz");
        fs::write(&path, &cut[..cut.len() / 2]).unwrap();
        assert!(AuditFile::at(path).unwrap().lines().unwrap().any(|line| line.is_err()), "half of it is said");
    }

    #[test]
    fn several_files_of_a_day_are_in_order_and_a_copy_is_left_out() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (one, two, three) = ([1, 2], [3, 4], [5, 6]);
        let lines = |numbers: [u64; 2]| numbers.map(|number| line("2026-11-24T00:00:00Z", number)).concat();
        fs::write(at("audit-20261124.jsonl"), lines(three)).unwrap();
        fs::write(at("audit-20261124.jsonl.1"), lines(one)).unwrap();
        fs::write(at("audit-20261124.jsonl.gz"), gzip(&lines(two))).unwrap();
        assert_eq!(names(folder.path()), ["audit-20261124.jsonl.1", "audit-20261124.jsonl.gz", "audit-20261124.jsonl"]);
        // The crash came before the plain one was removed.
        fs::write(at("audit-20261124.jsonl.gz"), gzip(&lines(three))).unwrap();
        assert_eq!(names(folder.path()), ["audit-20261124.jsonl.1", "audit-20261124.jsonl"]);
    }

    #[test]
    fn files_outside_of_the_time_are_left_alone() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for day in 10..=20 {
            let lines: String = (1..=3).map(|hour| line(&format!("2026-11-{day}T0{hour}:00:00Z"), 1)).collect();
            fs::write(at(&format!("audit-202611{day}.jsonl")), lines).unwrap();
        }
        let held = |since: Option<&str>, until: Option<&str>| -> Vec<i8> {
            let time = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            let files = list(folder.path()).unwrap();
            files.iter().filter(|file| file.may_hold(time(since), time(until))).map(|file| file.day().day()).collect()
        };
        assert_eq!(held(None, None).len(), 11);
        assert_eq!(held(Some("2026-11-15T00:00:00Z"), Some("2026-11-15T23:00:00Z")), [13, 14, 15, 16]);
        assert_eq!(held(Some("2026-11-19T12:00:00Z"), None), [18, 19, 20]);
        // The clock stepped back: the file's name stayed.
        fs::write(at("audit-20261118.jsonl"), line("2026-11-18T00:00:00Z", 1) + &line("2026-11-15T00:00:00Z", 2)).unwrap();
        assert_eq!(held(Some("2026-11-15T00:00:00Z"), Some("2026-11-15T23:00:00Z")), [13, 14, 15, 16, 18]);
        // Put right again within the file, which the header of the hop's own gzip says.
        fs::remove_file(at("audit-20261118.jsonl")).unwrap();
        let mut packed =
            GzBuilder::new().comment("2026-11-15T00:00:00.000Z 2026-11-18T02:00:00.000Z").write(Vec::new(), Compression::fast());
        packed.write_all(line("2026-11-18T00:00:00Z", 1).as_bytes()).unwrap();
        fs::write(at("audit-20261118.jsonl.gz"), packed.finish().unwrap()).unwrap();
        assert_eq!(held(Some("2026-11-15T00:00:00Z"), Some("2026-11-15T23:00:00Z")), [13, 14, 15, 16, 18]);
    }

    #[test]
    fn a_step_of_the_clock_hides_no_records() {
        let folder = TempDir::new().unwrap();
        let (since, until) = ("2026-11-24T00:00:00Z".parse().ok(), "2026-11-25T00:00:00Z".parse().ok());
        let day = |time: &str, count: u64| (0..count).map(|number| line(time, number)).collect::<String>();
        let (far, asked, later) = ("2031-01-01T10:00:00Z", "2026-11-24T10:00:00Z", "2026-11-26T10:00:00Z");
        let stepped = day(far, 1) + &day(asked, 1) + &day(later, 1);
        let zstd = ruzstd::encoding::compress_to_vec(stepped.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        for (name, octets, reads) in [
            ("audit-20310101.jsonl", stepped.clone().into_bytes(), true),
            ("audit-20310101.jsonl.gz", gzip(&stepped), true),
            ("audit-20310101.jsonl.zst", zstd, true),
            // Put right again within the file.
            ("audit-20310101.jsonl", (day(far, 3_000) + &day(asked, 3_000) + &day(far, 3_000)).into_bytes(), true),
            ("audit-20200101.jsonl", stepped.into_bytes(), true),
            ("audit-20310101.jsonl", day(far, 9_000).into_bytes(), false),
            ("audit-20310101.jsonl", day(far, 3).into_bytes(), false),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, octets).unwrap();
            assert_eq!(AuditFile::at(path).unwrap().may_hold(since, until), reads, "{name}");
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("audit-20261124.jsonl.gz");
        let mut packed = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..16 {
            packed.write_all(&piece).unwrap();
        }
        packed.write_all(b"\nnext\n").unwrap();
        packed.finish().unwrap();
        let lines: Vec<Vec<u8>> = AuditFile::at(path).unwrap().lines().unwrap().map(Result::unwrap).collect();
        assert_eq!((lines.len(), lines[1].as_slice()), (2, b"next".as_slice()));
        assert_eq!(lines[0].len() as u64, limits::AUDIT_LINE);
    }
}

//! Checksum files, as `sha256sum` and its kin write them and mirrors publish them.

use crate::digest::{Algorithm, Digest};

/// Largest checksum file that is read: ten thousand lines of sha512 are 1.3 MB and no mirror
/// directory is larger than that.
pub const MAX_CHECKSUM_FILE_BYTES: usize = 2 << 20;

/// Why a checksum file gives no digest.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum NoChecksum {
    #[error(
        "the checksum file is {found_bytes} bytes long, the limit is {MAX_CHECKSUM_FILE_BYTES}"
    )]
    TooLarge { found_bytes: usize },
    #[error("the checksum file is not text")]
    NotText,
    #[error("the checksum file has no md5, sha256 or sha512 of `{file_name}`")]
    NotListed { file_name: String },
    #[error("the checksum file has two different {algorithm} digests of `{file_name}`")]
    Ambiguous { file_name: String, algorithm: Algorithm },
}

/// Finds the strongest digest of `file_name` (percent-decoded, no directory) in a checksum file.
///
/// Understands lines of `sha256sum` (`digest  name`, `digest *name`), of BSD and openssl
/// (`SHA256 (name) = digest`), names that begin with `./`, and a file that is one bare digest.
/// Everything else is skipped: comments, signatures, other algorithms.
pub fn find(file: &[u8], file_name: &str) -> Result<Digest, NoChecksum> {
    if file.len() > MAX_CHECKSUM_FILE_BYTES {
        return Err(NoChecksum::TooLarge { found_bytes: file.len() });
    }
    let text = std::str::from_utf8(file).map_err(|_| NoChecksum::NotText)?;
    if let Ok(bare) = Digest::parse(text.trim()) {
        return Ok(bare);
    }
    let mut strongest: Option<Digest> = None;
    for line in text.lines() {
        let Some((digest, name)) = bsd_line(line).or_else(|| gnu_line(line)) else { continue };
        if name.strip_prefix("./").unwrap_or(name) != file_name {
            continue;
        }
        match strongest {
            Some(known) if known.algorithm() == digest.algorithm() && known != digest => {
                let file_name = file_name.to_owned();
                return Err(NoChecksum::Ambiguous { file_name, algorithm: digest.algorithm() });
            }
            Some(known) if known.algorithm() >= digest.algorithm() => {}
            Some(_) | None => strongest = Some(digest),
        }
    }
    strongest.ok_or_else(|| NoChecksum::NotListed { file_name: file_name.to_owned() })
}

/// `digest  name` or `digest *name`.
fn gnu_line(line: &str) -> Option<(Digest, &str)> {
    let (digest, rest) = line.split_once([' ', '\t'])?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let name = rest.strip_prefix('*').unwrap_or(rest).trim_end();
    Some((Digest::parse(digest).ok()?, name))
}

/// `SHA256 (name) = digest`, and openssl's `SHA2-256(name)= digest`.
fn bsd_line(line: &str) -> Option<(Digest, &str)> {
    let (algorithm, rest) = line.split_once('(')?;
    let (name, digest) = rest.rsplit_once(')')?;
    let digest = digest.trim_start().strip_prefix('=')?.trim();
    let algorithm = algorithm.trim().to_ascii_lowercase().replace("sha2-", "sha");
    Some((Digest::parse_as(algorithm.parse().ok()?, digest).ok()?, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(algorithm: Algorithm, digit: char) -> String {
        digit.to_string().repeat(algorithm.digest_bytes() * 2)
    }

    fn found(file: &str, name: &str) -> Result<String, NoChecksum> {
        find(file.as_bytes(), name).map(|digest| digest.to_string())
    }

    #[test]
    fn every_accepted_line_is_understood() {
        let sha256 = digest(Algorithm::Sha256, 'a');
        for line in [
            sha256.clone(),
            format!("{}\n\n", sha256.to_uppercase()),
            format!("{sha256}  disk.img"),
            format!("{sha256} *disk.img\r\n"),
            format!("{sha256}\tdisk.img"),
            format!("{sha256}  ./disk.img"),
            format!("SHA256 (disk.img) = {sha256}"),
            format!("SHA2-256(disk.img)= {sha256}"),
            format!("# a comment\n-----BEGIN PGP-----\nHash: SHA256\n\n{sha256}  disk.img\n"),
        ] {
            assert_eq!(found(&line, "disk.img"), Ok(sha256.clone()), "{line}");
        }
    }

    #[test]
    fn names_match_exactly() {
        let sha256 = digest(Algorithm::Sha256, 'a');
        for other in ["diskximg", "my-disk.img", "disk.img.bak", "sub/disk.img"] {
            let file = format!("{sha256}  {other}\nSHA256 ({other}) = {sha256}\n");
            assert!(
                matches!(found(&file, "disk.img"), Err(NoChecksum::NotListed { .. })),
                "{other}"
            );
        }
        let odd = "a+b (1) [x].img";
        assert_eq!(found(&format!("{sha256}  {odd}"), odd), Ok(sha256.clone()));
        assert_eq!(found(&format!("SHA256 ({odd}) = {sha256}"), odd), Ok(sha256));
    }

    #[test]
    fn the_strongest_digest_wins_wherever_it_stands() {
        let lines = Algorithm::ALL.map(|algorithm| format!("{}  d", digest(algorithm, 'b')));
        let [weak, middle, strong] = &lines;
        let strongest = digest(Algorithm::Sha512, 'b');
        assert_eq!(found(&format!("{weak}\n{strong}\n{middle}"), "d"), Ok(strongest.clone()));
        assert_eq!(found(&format!("{strong}\n{middle}\n{weak}"), "d"), Ok(strongest));
    }

    #[test]
    fn contradictions_and_files_that_are_none_are_refused() {
        let (one, two) = (digest(Algorithm::Sha256, '1'), digest(Algorithm::Sha256, '2'));
        assert!(matches!(
            found(&format!("{one}  d\n{two}  d"), "d"),
            Err(NoChecksum::Ambiguous { algorithm: Algorithm::Sha256, .. })
        ));
        assert!(found(&format!("{one}  d\n{one}  d"), "d").is_ok());
        let sha1 = "a".repeat(40);
        assert!(found(&format!("{sha1}  d"), "d").is_err());
        assert_eq!(find(&[0xff, 0xfe], "d"), Err(NoChecksum::NotText));
        let long = vec![b' '; MAX_CHECKSUM_FILE_BYTES + 1];
        assert!(matches!(find(&long, "d"), Err(NoChecksum::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(file in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = find(&file, "d");
        }

        #[test]
        fn arbitrary_lines_never_panic(file in "([a-f0-9]{64}|SHA256|[ *()=./\n\\PC]){0,12}") {
            let _ = find(file.as_bytes(), "d");
        }
    }
}

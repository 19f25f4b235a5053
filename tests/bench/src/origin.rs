//! A web server as plain as can be: whole files by `sendfile`, so that it costs next to nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// Serves the files of a directory on loopback until the process ends.
pub(crate) fn serve(directory: &Path) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let directory = directory.to_owned();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let directory = directory.clone();
            // A client that goes away is no matter.
            thread::spawn(move || drop(answer(&connection, directory)));
        }
    });
    Ok(address)
}

fn answer(mut connection: &TcpStream, directory: PathBuf) -> io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let mut file = File::open(directory.join(name))?;
    let length = file.metadata()?.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes())?;
    io::copy(&mut file, &mut connection)?;
    Ok(())
}

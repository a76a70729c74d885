//! What pods should not do.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_announced_are_refused_with_both_digests() {
    let server = Server::start().await;
    let (announced, sent) = (digest_of_bytes(b"announced"), digest_of_bytes(b"something"));
    let answer = server.request(&put_line(&announced), "job", "Content-Length: 9\n", b"something").await;
    assert_eq!(answer.reason(), (400, "DigestMismatch".to_owned()));
    let message = answer.message();
    assert!(message.contains(&announced) && message.contains(&sent), "{message}");
    server.until_no_files().await;
    assert_eq!(server.registry.blob("uid-of-a", &announced).await.unwrap(), None);

    server.client("job", |c| c.put_bytes(b"readable")).await.unwrap();
    let answer = server.request(&put_line(&readable()), "job", "Content-Length: 3\n", b"abc").await;
    assert_eq!(answer.reason(), (400, "DigestMismatch".to_owned()));
    assert_eq!(read(&server.blob_path("a", &readable())), b"readable");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_leaves_no_blob() {
    let server = Server::start().await;
    let body = vec![9; 3 << 20];
    let digest = digest_of_bytes(&body);
    let head = head(&put_line(&digest), "job", &format!("Content-Length: {}\n", body.len()));
    for sent in [0, 1, 2 << 20, body.len() - 1] {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..sent]).await.unwrap();
        stream.flush().await.unwrap();
        drop(stream);
        server.until_no_files().await;
        assert_eq!(server.registry.blob("uid-of-a", &digest).await.unwrap(), None);
    }
    // and the next whole one is taken
    server.client("job", move |c| c.put_bytes(&body)).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_shape_are_refused_with_a_word() {
    let limits = Limits { blob_bytes: 1000, ..Limits::default() };
    let server = Server::with(limits, &[]).await;
    let put = put_line(&readable());
    let too_long = format!("Content-Length: {}\n", contract::MAX_POST + 1);
    let upper = format!("PUT /v1/blobs/{}", readable().to_uppercase());
    let chunked = "Transfer-Encoding: chunked\n";
    let table: [(&str, &str, &[u8], u16, &str); 11] = [
        (&put, "Content-Length: 1001\nExpect: 100-continue\n", b"", 413, "TooLarge"),
        (&put, chunked, b"8\r\nreadable\r\n0\r\n\r\n", 411, "InvalidRequest"),
        ("PUT /v1/blobs/sha256:..%2f..%2fetc", "Content-Length: 1\n", b"x", 400, "InvalidRequest"),
        ("GET /v1/blobs/%2e%2e%2fregistry.db", "", b"", 400, "InvalidRequest"),
        ("GET /v1/blobs/../registry", "", b"", 404, "NotFound"),
        (&upper, "Content-Length: 1\n", b"x", 400, "InvalidRequest"),
        ("POST /v1/progress", &too_long, b"", 413, "TooLarge"),
        ("POST /v1/progress", "Content-Length: 9\n", b"{\"a\": [[[", 400, "InvalidRequest"),
        ("POST /v1/result", "Content-Length: 2\n", b"{}", 400, "InvalidRequest"),
        ("DELETE /v1/blobs/x", "", b"", 405, "InvalidRequest"),
        ("GET /", "", b"", 404, "NotFound"),
    ];
    for (line, headers, body, status, reason) in table {
        let answer = server.request(line, "job", headers, body).await;
        assert_eq!(answer.reason(), (status, reason.to_owned()), "{line} {headers}");
    }
    // a post that hides its length
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000)).repeat(2);
    let answer = server.request("POST /v1/result", "job", chunked, piece.as_bytes()).await;
    assert_eq!(answer.reason(), (413, "TooLarge".to_owned()));
    assert!(server.files().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let limits = Limits {
        header: Duration::from_millis(300),
        handshake: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::with(limits, &[]).await;
    let patience = Duration::from_secs(20);
    // one byte of a head and no more
    let mut slow = server.connect().await;
    slow.write_all(b"G").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(patience, slow.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection stays open");
    // no handshake at all
    let mut silent = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let closed = tokio::time::timeout(patience, silent.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection stays open");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_ends_and_leaves_no_blob() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let server = Server::with(limits, &[]).await;
    let mut stream = server.connect().await;
    let head = head(&put_line(&readable()), "job", "Content-Length: 8\n");
    stream.write_all(format!("{head}read").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = Answer::read(&mut stream).await;
    assert_eq!(answer.reason(), (400, "InvalidRequest".to_owned()));
    assert!(answer.message().contains("after 4 bytes"), "{}", answer.message());
    server.until_no_files().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_transfers_at_once_wait_and_are_then_told_to_come_back() {
    let limits = Limits { transfers: 1, queue: Duration::from_millis(200), ..Limits::default() };
    let server = Server::with(limits, &[]).await;
    let mut first = server.connect().await;
    let head = head(&put_line(&readable()), "job", "Content-Length: 8\n");
    first.write_all(format!("{head}read").as_bytes()).await.unwrap();
    first.flush().await.unwrap();
    while server.files().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = put_line(&digest_of_bytes(b"x"));
    let answer = server.request(&other, "job", "Content-Length: 1\n", b"x").await;
    assert_eq!(answer.reason(), (503, "Unavailable".to_owned()));
    first.write_all(b"able").await.unwrap();
    assert_eq!(Answer::read(&mut first).await.status, 201);
    let answer = server.request(&other, "job", "Content-Length: 1\n", b"x").await;
    assert_eq!(answer.status, 201);
    server.stop().await;
}

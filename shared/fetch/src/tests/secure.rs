//! TLS: whose certificates are taken, and both versions of HTTP.

use super::*;

/// A certificate for `secure.test`, signed by itself, valid until 2126, and its key; made with openssl for this test.
const CERTIFICATE: &str = "\
    308201973082013ea003020102021472271b2baab79f41b1c12e9db432a038c2a597e7300a06082a8648ce3d04030230\
    163114301206035504030c0b7365637572652e746573743020170d3236313132333136333331375a180f323132363130\
    33303136333331375a30163114301206035504030c0b7365637572652e746573743059301306072a8648ce3d02010608\
    2a8648ce3d03010703420004f9bbc1916521c919ab82c8b1b708937e22ca4f575595583a942ee5460d3ac9651fd0f801\
    b158c5efabb5de9b673b16af98e721fb130857a19d346fe938a87fa1a3683066301d0603551d0e041604140378a21701\
    82fa667ea84eb5a2522788c20e6012301f0603551d230418301680140378a2170182fa667ea84eb5a2522788c20e6012\
    30160603551d11040f300d820b7365637572652e74657374300c0603551d130101ff04023000300a06082a8648ce3d04\
    03020347003044022058e9339eb7be84c4717d7027dc935a10b9988cbc185cae9a788cd68d93702e1902205ebf88c15e\
    5a941ad570e4ea16b0490d66587a9d5b1709896a9bed9ccd4c7a69\
    ";
const KEY: &str = "\
    308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420f2e74c2f97c36fc28f0aa889\
    025567f67f3efec47eb5ae7835ed57dd70109612a14403420004f9bbc1916521c919ab82c8b1b708937e22ca4f575595\
    583a942ee5460d3ac9651fd0f801b158c5efabb5de9b673b16af98e721fb130857a19d346fe938a87fa1\
    ";

fn bytes_of(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// Serves TLS on threads of its own: HTTP/2 in its fewest frames, or HTTP/1.1 where `alpn` says so.
fn secure_server(alpn: &[u8]) -> Url {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(bytes_of(KEY));
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![bytes_of(CERTIFICATE).into()], key.into())
            .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let (config, is_http2) = (Arc::new(config), alpn == b"h2");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://secure.test:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // An error is a client that refuses the certificate.
            std::thread::spawn(move || serve_secure(stream, is_http2));
        }
    });
    Url::parse(&url).unwrap()
}

fn serve_secure(mut stream: impl io::Read + io::Write, is_http2: bool) -> io::Result<()> {
    if !is_http2 {
        let _request = stream.read(&mut [0; 2048])?;
        return stream.write_all(&ok("content-length: 5\r\n", b"<rss>"));
    }
    stream.read_exact(&mut [0; 24])?; // the preface
    stream.write_all(b"\0\0\0\x04\0\0\0\0\0")?; // SETTINGS
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame)?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        stream.read_exact(&mut vec![0; length as usize])?;
        if frame[3] == 1 {
            stream.write_all(b"\0\0\x01\x01\x04\0\0\0\x01\x88")?; // HEADERS: status 200
            stream.write_all(b"\0\0\x05\0\x01\0\0\0\x01<rss>")?; // DATA, the last
        }
    }
}

#[tokio::test]
async fn certificates_are_verified_and_both_protocols_spoken() {
    let mut parts = Parts::default();
    parts.roots.add(bytes_of(CERTIFICATE).into()).unwrap();
    parts.lookup = Lookup::Table(Arc::new(|_| vec![[127, 0, 0, 1].into()]));
    let network =
        Network { allow_nets: AllowNets::parse("127.0.0.1").unwrap(), ..Network::default() };
    let trusting = Http::build(&network, || NOW.parse().unwrap(), parts).unwrap();
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let url = secure_server(alpn);
        assert_eq!(body_of(&trusting, &url).await.body, b"<rss>");
        let failure = failure_of(&loopback(), &url).await;
        check(&failure, "tls");
        assert!(failure.to_string().contains("UnknownIssuer"), "{failure}");
        let mut other = url.clone();
        other.set_host(Some("other.test")).unwrap();
        let failure = failure_of(&trusting, &other).await;
        check(&failure, "tls");
        assert!(failure.to_string().contains("not valid for"), "{failure}");
    }
}

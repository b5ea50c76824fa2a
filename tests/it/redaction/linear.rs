//! The time of the redactor grows linearly with the text, whatever the text is.

use spantap::observe::redact::Redactor;
use spantap::system::thread;

/// Inputs on which a careless scanner takes quadratic time. Sixteen times the length must not take much more
/// than sixteen times as long, at the best of several tries. Quadratic time would be 256 times. At 45 times, two thirds
/// of the longer time is not linear.
#[test]
fn no_input_takes_more_than_linear_time() {
    let shapes = [
        "-",
        "a=",
        "A",
        "eyJ",
        "-eyJ",
        "eyJaaaaaaaaaa.",
        "token:[",
        "PASS a1B2c3!\n",
        "USER a\nPASS ",
        "334 A\n",
        "creds a/",
        "aB12cd! is the ",
        "key: h u n t e r ",
        "token: |\u{a} ",
        "token: |\n  a",
        "\" + \"",
        "\x5c\n",
        "^[[31m",
        "secret: {type: ",
        "RSSMRA85T10A562S ",
        "1 85 05 78 ",
        "token:{",
        "password=\"",
        "password='\\",
        "://",
        "://a@",
        "<",
        "<a>",
        ">",
        "<password>",
        "@",
        "a@b",
        "a.b@",
        "%40",
        "1",
        "1 ",
        "4111 ",
        "+1 ",
        "AB12",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN ",
        "key: |",
        ",",
        "secret,",
        "token | a\n",
        "VALUES(",
        "(token) VALUES (1, ",
        "hl_sk_EXAMPLcal",
        "ghp_aaaa_",
        "ConvertTo-SecureString -Force ",
        "echo a | ",
        "$(echo ",
        "password is aB3xQ7mK2z ",
        "the password ",
        "a = \"b\" -> \"",
        "htpasswd -b ",
        "snmpget -v3 ",
        "secret --body ",
        "private key 0x",
        "argv[1] = --token ",
        "password:\n\n",
        "\"name\":\"token\",",
        "Bearer ",
        "--token ",
        "curl -u ",
        "%3D",
        "token%3D",
        "sk-",
        "s.",
        "M.aaaaaa.",
        "token: [REDACTED:key_value]",
        "\u{200b}",
        "\x1b[",
        "\x1b]",
        "é",
        "a.",
        "Authorization: ",
        "\\\"",
        "\x1b[0mghp_EXAMPLEexample0123456789",
        "jane@example.org\x1b[0m",
        "Basic QUJDOkRFRkdI ",
        "token Aa1Bb2Cc3Dd4Ee5Ff6 ",
        "a:b@h:80 ",
        "a:b@",
        "a:@tcp(",
        "login u password x ",
        "password:{\"",
        "\"--token\",\n",
        "password=\"\"\"",
        "%22password%22%3A%22",
        "<x name=\"password\">",
        "arn:aws:secret:",
        "a\n=\n",
        "token=>\n",
        "token: ${",
        "token: ${{",
        "AT61-",
        "https://hooks.slack.com/services/",
        "://a:b",
        "://h/hook/",
        "%2525",
        "&amp;",
        "</b> ",
        "| a ",
        "(a): ",
        "aGVsbG8gd29ybGQh ",
        "acme_key_",
        "MC4CAQAwBQYDK2Vw",
        "word ",
        "0221 ",
        "value=",
        "mysql -p",
        "password=a'b ",
        "secret:\n",
    ];
    let time = |text: &str| {
        // Each text has its own redactor, because a private key that began continues in the next text.
        let mut redactor = Redactor::default();
        // CPU time of this thread, which other work on the machine does not change.
        let start = thread::thread_cpu();
        redactor.explain(text.as_bytes());
        std::time::Duration::from_nanos(thread::thread_cpu() - start)
    };
    let of_length = |shape: &str, length: usize| shape.repeat(length / shape.len());
    let floor = std::time::Duration::from_micros(200);
    for shape in shapes {
        let text = of_length(shape, 1280);
        let short = (0..4).map(|_| time(&text)).min().unwrap().max(floor);
        let text = of_length(shape, 20 << 10);
        // One try in time is enough.
        let too_long: Vec<_> =
            std::iter::repeat_with(|| time(&text)).take(4).take_while(|long| *long >= short * 45).collect();
        assert!(too_long.len() < 4, "{shape:?}: 1,280 bytes in {short:?}, 20 KiB in {too_long:?}");
    }
}

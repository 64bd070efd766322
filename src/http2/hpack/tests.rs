use proptest::prelude::*;

use super::*;
use crate::hostile::{assert_linear_in, mutated};

type Field = (String, String);

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, Unreadable> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| {
        fields.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
    })?;
    Ok(fields)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn fields(lines: &str) -> Vec<Field> {
    let field = |line: &str| {
        let (name, value) = line.trim().split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    lines.lines().filter(|line| !line.trim().is_empty()).map(field).collect()
}

/// Blocks that follow each other over one connection, what they stand for, and the size of the table after each.
fn assert_blocks(most: usize, blocks: &[(&str, &str, usize)]) {
    let mut decoder = Decoder { most_bytes: most, ..Decoder::default() };
    for (block, expected, size) in blocks {
        assert_eq!(decoded(&mut decoder, &bytes(block)), Ok(fields(expected)));
        assert_eq!(decoder.bytes, *size, "{expected}");
    }
}

#[test]
fn numbers_are_those_of_the_examples() {
    // RFC 7541, C.1.
    for (hex, bits, number) in [("0a", 5, 10), ("1f9a0a", 5, 1337), ("2a", 8, 42)] {
        let block = bytes(hex);
        assert_eq!(integer(&mut &block[..], bits), Ok(number));
        let mut written = Vec::new();
        put_integer(&mut written, 0, bits, number);
        assert_eq!(written, block);
    }
}

#[test]
fn fields_are_those_of_the_examples() {
    // RFC 7541, C.2.
    let alone = |block, expected, size| assert_blocks(4096, &[(block, expected, size)]);
    alone("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header", 55);
    alone("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", 0);
    alone("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", 0);
    alone("82", ":method: GET", 0);
}

#[test]
fn requests_are_those_of_the_examples() {
    // RFC 7541, C.3 and C.4: as they are, and in Huffman's code.
    let first = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com";
    let second = format!("{first}\ncache-control: no-cache");
    let third =
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value";
    assert_blocks(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", first, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", &second, 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", third, 164),
        ],
    );
    assert_blocks(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", first, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", &second, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", third, 164),
        ],
    );
}

#[test]
fn answers_are_those_of_the_examples_and_older_entries_make_room() {
    // RFC 7541, C.5 and C.6: a table of 256 bytes.
    let first =
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com";
    let second = first.replace("302", "307");
    let third = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
                 content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    assert_blocks(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
                 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                first,
                222,
            ),
            ("4803 3330 37c1 c0bf", &second, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 \
                 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 \
                 3630 303b 2076 6572 7369 6f6e 3d31",
                third,
                215,
            ),
        ],
    );
    assert_blocks(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
                 63c7 8f0b 97c8 e9ae 82ae 43d3",
                first,
                222,
            ),
            ("4883 640e ffc1 c0bf", &second, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
                 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                third,
                215,
            ),
        ],
    );
}

#[test]
fn what_breaks_the_rules_is_no_block() {
    for hex in [
        // No index, an index of nothing, and numbers that end too early or do not end.
        "80",
        "be",
        "ff",
        "ffffffffffff01",
        // A literal without a value, and one that is longer than what there is.
        "4001",
        "40016101",
        // The table resized behind a field, and beyond what was offered.
        "8220",
        "3fe2 1f",
        "3fff ffff 0f",
        // In Huffman's code: padding of eight bits, padding of zeros, and the end itself.
        "4001 6181ff",
        "4001 6182 1fff",
        "4001 6181 00",
        "4001 6184 ffff ffff",
    ] {
        assert!(decoded(&mut Decoder::default(), &bytes(hex)).is_err(), "{hex}");
    }
    assert_eq!(decoded(&mut Decoder::default(), &bytes("3fe1 1f 82")), Ok(fields(":method: GET")), "4,096 bytes");
    assert_eq!(
        decoded(&mut Decoder::default(), &bytes("20 3fe1 1f 82")),
        Ok(fields(":method: GET")),
        "less, and again"
    );
}

#[test]
fn a_small_block_that_stands_for_much_is_read_up_to_a_bound() {
    // One entry of 4,000 bytes, and as many references to it as there is room for.
    let mut block = Vec::new();
    block.push(0x40);
    put_string(&mut block, b"a");
    put_string(&mut block, &[b'b'; 4_000]);
    let mut decoder = Decoder::default();
    assert!(decoded(&mut decoder, &block).is_ok());
    let bomb = [0xbe; 16_000];
    let mut taken = 0;
    assert_eq!(decoder.decode(&bomb, |name, value| taken += name.len() + value.len()), Err(TooLong));
    assert!(taken <= MOST_LIST_BYTES);
}

#[test]
fn what_is_written_is_what_is_read() {
    let mut block = Vec::new();
    put_indexed(&mut block, index::POST);
    put_named(&mut block, index::CONTENT_TYPE, b"application/grpc");
    put_literal(&mut block, b"te", b"trailers", false);
    put_literal(&mut block, b"authorization", b"Bearer x", true);
    put_named(&mut block, index::PATH, &[b'/'; 1_000]);
    let mut decoder = Decoder::default();
    let read = decoded(&mut decoder, &block).unwrap();
    let path = format!(":path: {}", "/".repeat(1_000));
    let right = format!(":method: POST\ncontent-type: application/grpc\nte: trailers\nauthorization: Bearer x\n{path}");
    assert_eq!(read, fields(&right));
    assert!(decoder.entries.is_empty(), "nothing is for the table of the other side");
}

/// What an encoder may say, with everything that the format has.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let literal = (prop_oneof![Just(0x40_u8), Just(0), Just(0x10)], 0_usize..70, "[a-z]{1,9}", "[ -~]{0,30}").prop_map(
        |(kind, index, name, value)| {
            let mut field = Vec::new();
            put_integer(&mut field, kind, if kind == 0x40 { 6 } else { 4 }, index);
            if index == 0 {
                put_string(&mut field, name.as_bytes());
            }
            put_string(&mut field, value.as_bytes());
            field
        },
    );
    let indexed = (1_u8..80).prop_map(|index| vec![0x80 | index]);
    let resized = (0_usize..5_000).prop_map(|most| {
        let mut update = Vec::new();
        put_integer(&mut update, 0x20, 5, most);
        update
    });
    let field = prop_oneof![4 => literal, 4 => indexed, 1 => resized];
    prop::collection::vec(field, 0..12).prop_map(|fields| fields.concat())
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused_within_bounds(blocks in prop::collection::vec(mutated(blocks()), 1..6)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let mut listed = 0;
            let _ = decoder.decode(&block, |name, value| listed += name.len() + value.len() + ENTRY_BYTES);
            prop_assert!(listed <= MOST_LIST_BYTES);
            let bytes: usize = decoder.entries.iter().map(|(name, value)| name.len() + value.len() + ENTRY_BYTES).sum();
            prop_assert!(decoder.bytes == bytes && bytes <= decoder.most_bytes && decoder.most_bytes <= MOST_TABLE_BYTES);
        }
    }
}

#[test]
fn every_block_is_read_in_time_in_proportion_to_its_length() {
    type Make = fn(usize) -> Vec<u8>;
    let makes: [(&str, Make); 5] = [
        ("references", |bytes| vec![0x82; bytes]),
        ("entries that push each other out", |bytes| b"\x40\x01a\x01b".repeat(bytes / 5)),
        ("a long string", |bytes| [&b"\x00\x01a\x7f\xff\xff\x03"[..], &vec![b'a'; bytes]].concat()),
        ("a long string in Huffman's code", |bytes| [&b"\x00\x01a\xff\x80\xfe\x01"[..], &vec![0xff; bytes]].concat()),
        ("resizing", |bytes| vec![0x20; bytes]),
    ];
    for (what, make) in makes {
        assert_linear_in(what, make, |block| Decoder::default().decode(block, |_, _| {}));
    }
}

//! Writes frames that retina receives as a byte stream: client URL udp|tcp FRAMES FILE [USER PASSWORD]

use std::io::Write;

use futures::StreamExt;
use retina::client::{Credentials, PlayOptions, Session, SessionOptions, SetupOptions, Transport};
use retina::codec::{CodecItem, FrameFormat};

type Res<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Res<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, transport, count, path, login @ ..] = &words[..] else {
        return Err("client URL udp|tcp FRAMES FILE [USER PASSWORD]".into());
    };
    let login = match login {
        [username, password] => Some(Credentials { username: username.clone(), password: password.clone() }),
        _ => None,
    };
    let mut session = Session::describe(url.parse()?, SessionOptions::default().creds(login)).await?;
    let transport: Transport = transport.parse()?;
    session.setup(0, SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE)).await?;
    let mut frames = session.play(PlayOptions::default()).await?.demuxed()?;
    let mut file = std::fs::File::create(path)?;
    let (count, mut got) = (count.parse::<usize>()?, 0);
    while got < count {
        let Some(item) = frames.next().await else { break };
        let CodecItem::VideoFrame(frame) = item? else { continue };
        got += 1;
        file.write_all(frame.data())?;
    }
    Ok(())
}

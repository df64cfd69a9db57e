//! The service that speaks: a sentence becomes sound.

use serde_json::json;
use talkstack_media::audio::frame::{Form, SampleRate};
use talkstack_media::audio::resample::Resampler;

use super::greetings::{Greeting, Greetings, SPOKEN_BYTES_MAX, Spoken};
use super::http::HttpService;
use super::wyoming::WyomingService;
use super::{SOUND_BYTES, Told};
use crate::agent::cascade::message::{Failure, News};
use crate::agent::cascade::spoken::SpokenStream;
use crate::agent::cascade::wyoming::write_event;
use crate::io::connect::ConnectError;

/// Who speaks.
pub(super) struct Talker {
    service: Service,
    voice: Option<String>,
    greetings: Greetings,
    greeting: Greeting,
    /// Who speaks, and how: what makes the same text another sound.
    who: String,
}

enum Service {
    Http { service: HttpService, model: Option<String>, sample_rate: Option<u32> },
    Wyoming { service: WyomingService, language: Option<String> },
}

impl Talker {
    pub(super) fn http(
        service: HttpService,
        model: Option<String>,
        voice: Option<String>,
        sample_rate: Option<u32>,
    ) -> Self {
        Talker::of(Service::Http { service, model, sample_rate }, voice)
    }

    pub(super) fn wyoming(service: WyomingService, voice: Option<String>, language: Option<String>) -> Self {
        Talker::of(Service::Wyoming { service, language }, voice)
    }

    fn of(service: Service, voice: Option<String>) -> Self {
        let (greetings, greeting) = (Greetings::default(), Greeting::default());
        Talker { service, voice, greetings, greeting, who: String::new() }
    }

    /// Keeps what it speaks of a greeting among others'; `who` says who speaks, and how.
    pub(super) fn keeping(self, greetings: Greetings, greeting: Greeting, who: String) -> Self {
        Talker { greetings, greeting, who, ..self }
    }

    /// Makes the connection ahead of the first request.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self) -> Result<(), ConnectError> {
        match &self.service {
            Service::Http { service, .. } => service.connect().await,
            Service::Wyoming { service, .. } => service.connect().await,
        }
    }

    /// Speaks a text to a line of a rate, and tells of its sound as it comes.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn speak(&self, text: &str, line: SampleRate, told: &Told) -> Result<(), Failure> {
        let key = self.greeting.has(text).then(|| format!("{} {} {text}", self.who, line.hertz()));
        if let Some(spoken) = key.as_ref().and_then(|key| self.greetings.find(key)) {
            told.tell(News::Rate(spoken.rate)).await;
            for part in spoken.samples.chunks(SOUND_BYTES) {
                told.tell(News::Sound(part)).await;
            }
            told.tell(News::Spoken).await;
            return Ok(());
        }
        let kept = key.is_some().then(Vec::new);
        let mut sound = Sound { told, line, resampler: None, rate: None, kept };
        self.have_spoken(text, &mut sound).await?;
        if let (Some(key), Some(samples), Some(rate)) = (key, sound.kept, sound.rate) {
            self.greetings.keep(key, Spoken { rate, samples });
        }
        told.tell(News::Spoken).await;
        Ok(())
    }

    async fn have_spoken(&self, text: &str, sound: &mut Sound<'_>) -> Result<(), Failure> {
        match &self.service {
            Service::Http { service, model, sample_rate } => {
                let model = model.as_deref().unwrap_or(SPEAK_MODEL);
                let voice = self.voice.as_deref().unwrap_or(VOICE);
                let format = if sample_rate.is_some() { "pcm" } else { "wav" };
                let body = json!({ "model": model, "input": text, "voice": voice, "response_format": format });
                let mut reply =
                    service.post("/audio/speech", "application/json", body.to_string().into_bytes()).await?;
                let mut stream = sample_rate.map_or_else(SpokenStream::wav, SpokenStream::bare);
                let mut samples = Vec::new();
                while let Some(bytes) = reply.next().await? {
                    stream.handle_bytes(&bytes, &mut samples)?;
                    if let Some(rate) = stream.rate() {
                        sound.tell(rate, &samples).await?;
                        samples.clear();
                    }
                }
                // Not even a header has come.
                stream.rate().ok_or(Failure::Format)?;
            }
            Service::Wyoming { service, language } => {
                let mut asked = json!({ "text": text });
                match (&self.voice, language) {
                    (Some(voice), _) => asked["voice"] = json!({ "name": voice }),
                    (None, Some(language)) => asked["voice"] = json!({ "language": language }),
                    (None, None) => {}
                }
                let mut request = Vec::new();
                write_event(&mut request, "synthesize", &asked, &[]);
                let (mut line, mut event) = service.request(&request).await?;
                let (mut stream, mut samples) = (None, Vec::new());
                while event.kind != "audio-stop" {
                    if event.kind == "audio-start" || event.kind == "audio-chunk" {
                        let [rate, width, channels] = ["rate", "width", "channels"].map(|name| event.number(name));
                        let rate = rate.filter(|rate| *rate > 0 && (width, channels) == (Some(2), Some(1)));
                        let rate = rate.ok_or(Failure::Format)?;
                        stream
                            .get_or_insert_with(|| SpokenStream::bare(rate))
                            .handle_bytes(&event.payload, &mut samples)?;
                        sound.tell(rate, &samples).await?;
                        samples.clear();
                    }
                    event = line.next().await?;
                }
                service.put_back(line);
            }
        }
        Ok(())
    }
}

/// Sound on its way to the call: at the rate it has, if lines or providers have that, or else at the line's.
struct Sound<'a> {
    told: &'a Told,
    line: SampleRate,
    resampler: Option<Resampler>,
    /// What it goes out at, once it has begun.
    rate: Option<SampleRate>,
    /// All that has gone out, where it is to be kept; up to more than is kept.
    kept: Option<Vec<u8>>,
}

impl Sound<'_> {
    /// Tells of whole samples of a rate.
    async fn tell(&mut self, hertz: u32, samples: &[u8]) -> Result<(), Failure> {
        if self.rate.is_none() {
            let known = SampleRate::ALL.into_iter().find(|rate| rate.hertz() == hertz);
            if known.is_none() {
                self.resampler = Some(Resampler::of_file(hertz, self.line).ok_or(Failure::Format)?);
            }
            let rate = *self.rate.insert(known.unwrap_or(self.line));
            self.told.tell(News::Rate(rate)).await;
        }
        let mut resampled = Vec::new();
        let samples = match &mut self.resampler {
            None => samples,
            Some(resampler) => {
                let linear = Form::Linear(self.line);
                let (mut before, mut after) = (Vec::new(), Vec::new());
                linear.decode(samples, &mut before);
                resampler.resample(&before, &mut after);
                linear.encode(&after, &mut resampled);
                &resampled
            }
        };
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.len() <= SPOKEN_BYTES_MAX) {
            kept.extend_from_slice(samples);
        }
        for part in samples.chunks(SOUND_BYTES) {
            self.told.tell(News::Sound(part)).await;
        }
        Ok(())
    }
}

/// What every server that speaks OpenAI's protocol takes by name.
const SPEAK_MODEL: &str = "tts-1";
const VOICE: &str = "alloy";

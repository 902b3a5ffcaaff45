//! Sending with publisher confirms.
//!
//! What no queue takes comes back before it is confirmed. Whose it is the client library does not say: it hands it over with whichever
//! confirm is next (lapin, `acknowledgement.rs`). So every call has a channel to itself, and what comes back is known by what it is.

use futures::future::join_all;
use lapin::{Confirmation, message::BasicReturnMessage, options::BasicPublishOptions};
use tokio::time::timeout;

use super::{Shared, message::Post};
use crate::amqp::{
    error::{AmqpError, judge},
    link::ANSWER,
};

impl Shared {
    /// Sends, and awaits what the server says to each.
    pub(super) async fn send(&self, posts: &[Result<Post, AmqpError>]) -> Vec<Result<(), AmqpError>> {
        if let Err(error) = self.unblocked() {
            return vec![Err(error); posts.len()];
        }
        let line = match self.line().await {
            Ok(line) => line,
            Err(error) => return vec![Err(error); posts.len()],
        };
        let sending = posts.iter().map(|post| {
            let channel = &line.channel;
            async move {
                let post = post.clone()?;
                let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
                let publish = channel.basic_publish(post.exchange, post.routing_key, mandatory, &post.body, post.properties);
                publish.await.map_err(|error| judge(&error, "publishing"))
            }
        });
        let sent = match timeout(ANSWER, join_all(sending)).await {
            Ok(sent) => sent,
            Err(_) => return vec![Err(AmqpError::Unavailable(format!("publishing: no answer within {ANSWER:?}"))); posts.len()],
        };
        let confirmed = sent.into_iter().map(|sent| async move {
            match timeout(ANSWER, sent?).await {
                Err(_) => Err(AmqpError::Unavailable(format!("publishing: not confirmed within {ANSWER:?}"))),
                Ok(confirmed) => confirmed.map_err(|error| judge(&error, "publishing")),
            }
        });
        let mut back = Vec::new();
        let mut answers = Vec::with_capacity(posts.len());
        for confirmed in join_all(confirmed).await {
            answers.push(match confirmed {
                Ok(Confirmation::Ack(returned)) => {
                    back.extend(returned);
                    Ok(())
                }
                // A full queue that rejects (`x-overflow`), or a server that could not write.
                Ok(Confirmation::Nack(returned)) => {
                    back.extend(returned);
                    Err(AmqpError::Unavailable("RabbitMQ did not accept the message; is its queue full?".to_owned()))
                }
                Ok(Confirmation::NotRequested) => Err(AmqpError::Unavailable("RabbitMQ was not asked to confirm".to_owned())),
                Err(error) => Err(error),
            });
        }
        refuse(posts, &mut answers, back);
        // A confirm that is still to come would count for the next call.
        if !answers.iter().any(|answer| matches!(answer, Err(AmqpError::Unavailable(_)))) {
            self.lines.keep(line);
        }
        answers
    }
}

/// Says of each post that has come back that no queue took it.
fn refuse(posts: &[Result<Post, AmqpError>], answers: &mut [Result<(), AmqpError>], back: Vec<BasicReturnMessage>) {
    let mut refused = vec![false; posts.len()];
    for returned in back {
        let is_it = |post: &Result<Post, AmqpError>| {
            let (Ok(post), message) = (post, &returned.delivery) else { return false };
            let (id, is) = (post.properties.correlation_id(), message.properties.correlation_id());
            post.exchange == message.exchange && post.routing_key == message.routing_key && id == is && post.body[..] == message.data[..]
        };
        let found = posts.iter().zip(&refused).position(|(post, refused)| !refused && is_it(post));
        let Some(at) = found else {
            tracing::error!(key = %returned.delivery.routing_key, "RabbitMQ has returned what was not sent");
            continue;
        };
        refused[at] = true;
        answers[at] = Err(unroutable(&returned));
    }
}

fn unroutable(returned: &BasicReturnMessage) -> AmqpError {
    let (message, reason) = (&returned.delivery, &returned.reply_text);
    let place = format!("exchange `{}`, routing key `{}`", message.exchange, message.routing_key);
    AmqpError::Refused(format!("no queue takes messages for {place} ({reason}); declare and bind one"))
}

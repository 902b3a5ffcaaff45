//! The messages are those of CPython 3.11, typed in by hand.

use super::*;

const AB: &[Parameter] = &[Parameter { name: "a", required: true }, Parameter { name: "b", required: true }];
const AB_OPTIONAL: &[Parameter] = &[Parameter { name: "a", required: true }, Parameter { name: "b", required: false }];
const ABC: &[Parameter] =
    &[Parameter { name: "a", required: true }, Parameter { name: "b", required: true }, Parameter { name: "c", required: true }];

fn kwargs(pairs: &[(&str, i64)]) -> Map {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::Int(*value))).collect()
}

#[track_caller]
fn refuses(parameters: &'static [Parameter], args: &[i64], pairs: &[(&str, i64)], message: &str) {
    let args = args.iter().copied().map(Value::Int).collect();
    match Arguments::bind("f", parameters, args, kwargs(pairs)) {
        Err(TaskFailure::BadArguments(error)) => {
            assert_eq!((error.exc_type.as_str(), error.exc_message), ("TypeError", vec![Value::from(message)]));
        }
        other => panic!("expected a TypeError, got {other:?}"),
    }
}

#[test]
fn python_words_for_what_does_not_fit() {
    refuses(AB, &[], &[], "f() missing 2 required positional arguments: 'a' and 'b'");
    refuses(AB, &[1], &[], "f() missing 1 required positional argument: 'b'");
    refuses(ABC, &[], &[], "f() missing 3 required positional arguments: 'a', 'b', and 'c'");
    refuses(AB, &[1, 2, 3], &[], "f() takes 2 positional arguments but 3 were given");
    refuses(AB_OPTIONAL, &[1, 2, 3], &[], "f() takes from 1 to 2 positional arguments but 3 were given");
    refuses(&[], &[1], &[], "f() takes 0 positional arguments but 1 was given");
    refuses(&AB[..1], &[1, 2], &[], "f() takes 1 positional argument but 2 were given");
    refuses(AB, &[1], &[("a", 2)], "f() got multiple values for argument 'a'");
    refuses(AB, &[1, 2], &[("z", 2)], "f() got an unexpected keyword argument 'z'");
}

#[test]
fn positions_keywords_and_defaults_meet() {
    let mut arguments = Arguments::bind("f", AB_OPTIONAL, vec![Value::Int(1)], kwargs(&[("b", 2)])).unwrap();
    assert_eq!((arguments.take::<i64>(0).unwrap(), arguments.take_or::<i64>(1, || 7).unwrap()), (1, 2));
    let mut arguments = Arguments::bind("f", AB_OPTIONAL, Vec::new(), kwargs(&[("a", 1)])).unwrap();
    assert_eq!((arguments.take::<i64>(0).unwrap(), arguments.take_or::<i64>(1, || 7).unwrap()), (1, 7));
}

#[test]
fn a_wrong_type_names_the_argument() {
    let mut arguments = Arguments::bind("f", &AB[..1], vec![Value::from("one")], Map::new()).unwrap();
    match arguments.take::<i64>(0) {
        Err(TaskFailure::BadArguments(error)) => {
            let message = error.exc_message[0].as_str().unwrap();
            assert!(message.starts_with("f() argument 'a'"), "{message}");
        }
        other => panic!("expected a TypeError, got {other:?}"),
    }
}

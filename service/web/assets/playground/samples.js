// Texts to begin with; all written for this page.

export const SENTENCES = [
  "A man plays a guitar on the street.",
  "Someone is making music outside.",
  "The stock market fell sharply today.",
  "Shares lost a lot of their value.",
  "It will rain for most of the week.",
];

export const SENTENCES_TO_FIT = [
  "A kitten sleeps on the sofa.",
  "The cat is napping on the couch.",
  "A dog barks at the postman.",
  "Our puppy chases every letter carrier.",
  "The farmer feeds his horses.",
  "Horses run over the wet meadow.",
  "Rain fell on the meadow all night.",
  "The weather will stay wet this week.",
  "A storm is coming from the sea.",
  "High waves closed the harbour.",
  "Ships waited outside the harbour.",
  "Freight prices rose as ships were delayed.",
  "Shares of shipping companies fell.",
  "The stock market closed lower today.",
];

export const REVIEWS = [
  "The room was clean and quiet. Breakfast was cold when we came down at nine.",
  "Very clean room, friendly people at the desk. The coffee at breakfast tasted burnt.",
  "Quiet nights, clean bathroom. We would have liked warm food in the morning.",
  "Friendly staff helped us with the luggage. The breakfast was cold again on Sunday.",
  "The lift is slow, but the room was spotless and the street is quiet at night.",
];

export const VERSE = "Good morrow, friends. The night was long and cold,\nAnd yet the fire held. Who keeps the door?";

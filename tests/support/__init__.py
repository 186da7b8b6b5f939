"""Real servers, faults and fakes that several kinds of tests share."""

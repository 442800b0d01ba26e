package azure

// For the fuzz test.
var ParseError, MatchAction = parseError, matchAction

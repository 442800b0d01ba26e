// Package ccm holds the formats that Configuration Manager clients and
// management points exchange: messages, signatures, registration, policy,
// locations, reports and client notification (wire.md 3 to 9). The package is
// pure: bytes in, values out. It opens no connection and keeps no state, so
// the management point and the client share it.
//
// A [Message] is the envelope of nearly everything: [ParseMessage] reads what
// arrived in a CCM_POST, [Message.Encode] writes and signs one, and
// [Message.Reply] writes the answer. The text inside is one of the documents
// of registration.go, policy.go, location.go and report.go. Notification has
// its own framing in bgb.go, token exchange in sts.go. What public knowledge
// leaves open is decided in choices.go and nowhere else.
//
// Every reader here takes bytes of strangers: sizes, depth and decompression
// are bounded, document type declarations are refused, and a client ID is
// accepted in its strict form only. Errors are [opencmg.Invalid] or
// [opencmg.TooLarge] and never contain more of the input than a name.
package ccm

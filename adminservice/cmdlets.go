package adminservice

import "encoding/json"

// A CmdletCall runs a cmdlet at the site (POST Cmdlets/{name}).
type CmdletCall struct {
	// Parameters are the values by parameter name, as the cmdlet's reference
	// page has them; a switch is true.
	Parameters map[string]any `json:"parameters,omitempty"`
	// Input are the objects that are piped in.
	Input []map[string]any `json:"input,omitempty"`
	// Files are the contents of the files that parameters name, by that name
	// (base64 in JSON).
	Files map[string][]byte `json:"files,omitempty"`
	// Wait answers when what the cmdlet began has ended.
	Wait bool `json:"wait,omitempty"`
}

// A CmdletLine is one line of the answer. It has one of the properties.
type CmdletLine struct {
	Object   map[string]any  `json:"object,omitempty"`
	Progress *CmdletProgress `json:"progress,omitempty"`
	Warning  string          `json:"warning,omitempty"`
	WhatIf   string          `json:"whatIf,omitempty"`
	Problem  json.RawMessage `json:"problem,omitempty"` // the problem document that ended it
}

// A CmdletProgress is how far an operation of a cmdlet is.
type CmdletProgress struct {
	Operation string `json:"operation"`
	Activity  string `json:"activity"` // what is done, e.g. create
	Percent   int    `json:"percent"`
	Step      string `json:"step"`
	Text      string `json:"text"`
}

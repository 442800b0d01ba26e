package ccm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// PolicyFlags are the bits of a policy (wire.md 6.1).
type PolicyFlags uint32

// The policy flags.
const (
	PolicyTaskSequence       PolicyFlags = 1
	PolicyRequiresAuth       PolicyFlags = 2
	PolicySecret             PolicyFlags = 4
	PolicyIntranetOnly       PolicyFlags = 8
	PolicyPersistWhole       PolicyFlags = 16
	PolicyDynamicDownload    PolicyFlags = 32
	PolicyCompressed         PolicyFlags = 64
	policyNeedsProof                     = PolicyRequiresAuth | PolicySecret
	policyLocationMP                     = "http://<mp>" + PathPolicy + "?"
	policyHashPrefix                     = "SHA256:"
	serverCookieLayout                   = "2006-01-02 15:04:05.000"
	assignmentsSchemaVersion             = "1.00"
)

// NeedsProof reports whether the body is given only to a client that proves
// its identity ([ParseClientProof]).
func (f PolicyFlags) NeedsProof() bool { return f&policyNeedsProof != 0 }

// An AssignmentRequest asks which policies apply to a machine or user.
type AssignmentRequest struct {
	// OnUpdate asks for the changes since ServerCookie only; otherwise for
	// everything.
	OnUpdate     bool
	ClientID     opencmg.ClientID
	FQDN         string
	NetBIOSName  string
	UserSID      string // of a request for user policy
	UserName     string
	PolicySource string // SMS:<site>; often wrong in tools, do not reject on it
	ResourceType string // Machine or User
	// ServerCookie is that of the last reply; the zero time when there is none
	// or it does not read as a time.
	ServerCookie time.Time
}

type assignmentRequestXML struct {
	XMLName        xml.Name `xml:"RequestAssignments"`
	SchemaVersion  string   `xml:"SchemaVersion,attr"`
	ACK            string   `xml:"ACK,attr"`
	RequestType    string   `xml:"RequestType,attr"`
	Identification struct {
		Machine machineXML
		User    struct {
			NT4UserName string `xml:",omitempty"`
			SID         string `xml:",omitempty"`
		}
	}
	PolicySource string
	Resource     resourceXML
	ServerCookie string
}

type machineXML struct {
	ClientID    string
	FQDN        string `xml:",omitempty"`
	NetBIOSName string `xml:",omitempty"`
	SID         string
}

type resourceXML struct {
	ResourceType string `xml:"ResourceType,attr"`
}

// Encode writes the request.
func (r AssignmentRequest) Encode() string {
	x := assignmentRequestXML{SchemaVersion: assignmentsSchemaVersion, ACK: "false", RequestType: "Always", PolicySource: r.PolicySource, Resource: resourceXML{orDefault(r.ResourceType, "Machine")}}
	if r.OnUpdate {
		x.RequestType = "OnUpdate"
	}
	x.Identification.Machine = machineXML{ClientID: string(r.ClientID), FQDN: r.FQDN, NetBIOSName: r.NetBIOSName}
	x.Identification.User.NT4UserName, x.Identification.User.SID = r.UserName, r.UserSID
	x.ServerCookie = formatCookie(r.ServerCookie)
	return formatXML(x)
}

// ParseAssignmentRequest reads a request. The ClientID inside is what the
// client says; the message's verified SourceID decides.
func ParseAssignmentRequest(text string) (AssignmentRequest, error) {
	var x assignmentRequestXML
	if err := parseXML(text, &x); err != nil {
		return AssignmentRequest{}, fmt.Errorf("policy request: %w", err)
	}
	m := x.Identification.Machine
	r := AssignmentRequest{
		OnUpdate: strings.EqualFold(x.RequestType, "OnUpdate"), FQDN: m.FQDN, NetBIOSName: m.NetBIOSName,
		UserSID: x.Identification.User.SID, UserName: x.Identification.User.NT4UserName,
		PolicySource: x.PolicySource, ResourceType: x.Resource.ResourceType, ServerCookie: parseCookie(x.ServerCookie),
	}
	if m.ClientID != "" {
		var err error
		if r.ClientID, err = opencmg.ParseClientID(m.ClientID); err != nil {
			return AssignmentRequest{}, fmt.Errorf("policy request: %w", err)
		}
	}
	return r, nil
}

// An Assignment gives one policy to a client, or takes it away.
type Assignment struct {
	ID     string // {GUID}
	Action string // empty, or ActionDelete in a delta reply
	Policy PolicyReference
}

// A PolicyReference names a policy and where its body is.
type PolicyReference struct {
	ID       string // {GUID}, or like LAB20000-LAB00003-6F6BCC28
	Version  string // e.g. 1.00
	Type     string // Machine or User
	Category string
	Flags    PolicyFlags
	// Hash is "SHA256:" and the capital hexadecimal hash of the body.
	Hash string
	// Location holds the literal <mp>, see [PolicyReference.URL].
	Location string
}

// URL returns where to get the body from the management point whose root is
// base, such as https://gateway.example.com/CCM_Proxy_ServerAuth/8.
func (p PolicyReference) URL(base string) (string, error) {
	_, query, ok := strings.Cut(p.Location, PathPolicy+"?")
	if !ok || !strings.Contains(p.Location, "<mp>") {
		return "", opencmg.Errorf(opencmg.Invalid, "policy %s: its location is not on a management point", p.ID)
	}
	if q, err := url.PathUnescape(query); err == nil {
		query = q // some arrive escaped
	}
	return strings.TrimSuffix(base, "/") + PathPolicy + "?" + url.PathEscape(query), nil
}

// PolicyLocation returns the location of the policy with this hash.
func PolicyLocation(id, hash string) string { return policyLocationMP + id + "." + hash }

// PolicyHash returns the Hash of a policy body.
func PolicyHash(body []byte) string {
	sum := sha256.Sum256(body)
	return policyHashPrefix + strings.ToUpper(hex.EncodeToString(sum[:]))
}

// ParsePolicyQuery splits the query of a policy request, as received, into the
// policy's ID and the hash or version behind it.
func ParsePolicyQuery(raw string) (id, suffix string, err error) {
	q, err := url.PathUnescape(raw)
	if err != nil || len(q) > 512 {
		return "", "", opencmg.Errorf(opencmg.Invalid, "policy query is malformed")
	}
	if i := strings.LastIndexByte(q, '.'); i > 0 && i < len(q)-1 {
		return q[:i], q[i+1:], nil
	}
	return "", "", opencmg.Errorf(opencmg.Invalid, "policy query must be a policy ID, a dot, and its hash or version")
}

// An AssignmentReply lists assignments.
type AssignmentReply struct {
	Delta        bool
	ClientID     opencmg.ClientID
	PolicySource string // SMS:<site>
	ResourceType string
	ServerCookie time.Time
	Assignments  []Assignment
}

type assignmentReplyXML struct {
	XMLName        xml.Name `xml:"ReplyAssignments"`
	SchemaVersion  string   `xml:"SchemaVersion,attr"`
	ReplyType      string   `xml:"ReplyType,attr"`
	Identification struct {
		Machine struct{ ClientID string }
	}
	PolicySource     string
	Resource         resourceXML
	ServerCookie     string
	PolicyAssignment []assignmentXML
}

type assignmentXML struct {
	ID        string `xml:"PolicyAssignmentID,attr"`
	Action    string `xml:"Action,attr,omitempty"`
	Condition struct{}
	Policy    struct {
		ID       string `xml:"PolicyID,attr"`
		Version  string `xml:"PolicyVersion,attr"`
		Type     string `xml:"PolicyType,attr"`
		Category string `xml:"PolicyCategory,attr"`
		Flags    string `xml:"PolicyFlags,attr"`
		Location struct {
			Hash string `xml:"PolicyHash,attr"`
			Text string `xml:",cdata"`
		} `xml:"PolicyLocation"`
	}
}

// Encode writes the reply.
func (r AssignmentReply) Encode() string {
	x := assignmentReplyXML{SchemaVersion: assignmentsSchemaVersion, ReplyType: "Full", PolicySource: r.PolicySource, Resource: resourceXML{orDefault(r.ResourceType, "Machine")}, ServerCookie: formatCookie(r.ServerCookie)}
	if r.Delta {
		x.ReplyType = "Delta"
	}
	x.Identification.Machine.ClientID = string(r.ClientID)
	for _, a := range r.Assignments {
		y := assignmentXML{ID: a.ID, Action: a.Action}
		y.Policy.ID, y.Policy.Version, y.Policy.Type, y.Policy.Category = a.Policy.ID, a.Policy.Version, a.Policy.Type, a.Policy.Category
		y.Policy.Flags = fmt.Sprint(uint32(a.Policy.Flags))
		y.Policy.Location.Hash, y.Policy.Location.Text = a.Policy.Hash, a.Policy.Location
		x.PolicyAssignment = append(x.PolicyAssignment, y)
	}
	return formatXML(x)
}

// ParseAssignmentReply reads a reply.
func ParseAssignmentReply(text string) (AssignmentReply, error) {
	var x assignmentReplyXML
	if err := parseXML(text, &x); err != nil {
		return AssignmentReply{}, fmt.Errorf("policy reply: %w", err)
	}
	id, err := opencmg.ParseClientID(x.Identification.Machine.ClientID)
	if err != nil {
		return AssignmentReply{}, fmt.Errorf("policy reply: %w", err)
	}
	r := AssignmentReply{Delta: strings.EqualFold(x.ReplyType, "Delta"), ClientID: id, PolicySource: x.PolicySource, ResourceType: x.Resource.ResourceType, ServerCookie: parseCookie(x.ServerCookie)}
	for _, a := range x.PolicyAssignment {
		p := a.Policy
		r.Assignments = append(r.Assignments, Assignment{ID: a.ID, Action: a.Action, Policy: PolicyReference{
			ID: p.ID, Version: p.Version, Type: p.Type, Category: p.Category, Flags: PolicyFlags(number(p.Flags)),
			Hash: p.Location.Hash, Location: strings.TrimSpace(p.Location.Text),
		}})
	}
	return r, nil
}

// A Policy is a policy body: rules whose actions set instances.
type Policy struct {
	XMLName       xml.Name     `xml:"Policy"`
	ID            string       `xml:"PolicyID,attr"`
	Version       string       `xml:"PolicyVersion,attr"`
	Type          string       `xml:"PolicyType,attr"`
	Source        string       `xml:"PolicySource,attr"`
	SchemaVersion string       `xml:"SchemaVersion,attr"`
	Rules         []PolicyRule `xml:"PolicyRule"`
}

// A PolicyRule is one rule of a policy. Its condition is empty: always.
type PolicyRule struct {
	ID        string `xml:"PolicyRuleID,attr"`
	Condition struct{}
	Actions   []PolicyAction `xml:"PolicyAction"`
}

// A PolicyAction sets instances of settings classes.
type PolicyAction struct {
	Type      string           `xml:"PolicyActionType,attr"` // e.g. WMI-XML
	Instances []PolicyInstance `xml:"instance"`
}

// A PolicyInstance is one instance of a settings class, e.g. CCM_ClientAgentConfig.
type PolicyInstance struct {
	Class      string           `xml:"class,attr"`
	Properties []PolicyProperty `xml:"property"`
}

// A PolicyProperty is one setting. Type is a CIM type number as text, 8 for a
// string, 19 for an unsigned 32-bit number, 11 for a boolean.
type PolicyProperty struct {
	Name  string `xml:"name,attr"`
	Type  string `xml:"type,attr"`
	Value string `xml:"value"`
}

// Encode writes the body as it is served and hashed: UTF-16LE with mark.
func (p Policy) Encode() []byte {
	p.SchemaVersion = orDefault(p.SchemaVersion, "1.00")
	return encodeUTF16Mark(`<?xml version="1.0" encoding="utf-16"?>` + formatXML(p))
}

// ParsePolicy reads a body of [Policy.Encode] or of a management point.
func ParsePolicy(body []byte) (Policy, error) {
	text, err := decodeText(body)
	if err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	var p Policy
	if err := parseXML(text, &p); err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

// Setting returns the value of a property of the first instance of a class,
// both without regard to case, and whether there is one.
func (p Policy) Setting(class, property string) (string, bool) {
	for _, r := range p.Rules {
		for _, a := range r.Actions {
			for _, i := range a.Instances {
				if !strings.EqualFold(i.Class, class) {
					continue
				}
				for _, v := range i.Properties {
					if strings.EqualFold(v.Name, property) {
						return v.Value, true
					}
				}
			}
		}
	}
	return "", false
}

func formatCookie(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(serverCookieLayout)
}

func parseCookie(s string) time.Time {
	t, err := time.Parse(serverCookieLayout, strings.TrimSpace(s))
	if err != nil {
		return parseTime(s)
	}
	return t
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

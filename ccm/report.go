package ccm

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Predefined inventory actions (wire.md 8.1).
const (
	ActionHardware  = "{00000000-0000-0000-0000-000000000001}"
	ActionSoftware  = "{00000000-0000-0000-0000-000000000002}"
	ActionDiscovery = "{00000000-0000-0000-0000-000000000003}"
	ActionFiles     = "{00000000-0000-0000-0000-000000000010}"
)

// Values of Report.Content.
const (
	ContentInventory = "Inventory Data"
	ContentState     = "State Message Data"
)

// A Report is the envelope of discovery data, inventory and state messages.
type Report struct {
	ClientID      opencmg.ClientID
	ClientVersion string
	NetBIOSName   string
	Content       string // ContentInventory or ContentState
	Full          bool   // false for a delta
	Date          time.Time
	// ActionID and ActionName name the inventory action; empty for state
	// messages.
	ActionID, ActionName string
	Instances            []Instance
	States               []StateMessage
}

// An Instance is one instance of an inventory class.
type Instance struct {
	Namespace  string
	Class      string
	Properties []Property
}

// A StateMessage reports the state of one topic (wire.md 8.3). Topic types:
// 701 heartbeat, 800 client deployment, 1000 client communication, and others.
type StateMessage struct {
	Time         time.Time
	SerialNumber int
	Criticality  int
	StateID      int
	TopicID      string
	TopicType    int
	Parameters   []string
}

type reportHeaderXML struct {
	XMLName        xml.Name `xml:"ReportHeader"`
	Identification struct {
		Machine struct {
			ClientInstalled   string
			ClientType        string
			ClientID          string
			ClientVersion     string
			NetBIOSName       string
			CodePage          string
			SystemDefaultLCID string
			Priority          string
		}
	}
	ReportDetails struct {
		ReportContent string
		ReportType    string
		Date          string
		Version       string
		Format        string
	}
	InventoryAction *inventoryActionXML `xml:",omitempty"`
}

type inventoryActionXML struct {
	ActionType  string `xml:"ActionType,attr"`
	ID          string `xml:"InventoryActionID"`
	Description string
	Updated     string `xml:"InventoryActionLastUpdateTime"`
}

type instanceXML struct {
	XMLName     xml.Name `xml:"Instance"`
	Content     string   `xml:"Content,attr"`
	Namespace   string   `xml:"Namespace,attr"`
	Class       string   `xml:"Class,attr"`
	ParentClass string   `xml:"ParentClass,attr"`
	Object      struct {
		XMLName    xml.Name
		Properties []propertyXML `xml:",any"`
	} `xml:",any"`
}

type propertyXML struct {
	XMLName xml.Name
	Text    string `xml:",chardata"`
}

type stateXML struct {
	XMLName xml.Name `xml:"StateMessage"`
	Time    string   `xml:"MessageTime,attr"`
	Serial  string   `xml:"SerialNumber,attr"`
	State   struct {
		Criticality string `xml:"Criticality,attr"`
		ID          string `xml:"ID,attr"`
	}
	Topic struct {
		ID     string `xml:"ID,attr"`
		IDType string `xml:"IDType,attr"`
		Type   string `xml:"Type,attr"`
	}
	UserParameters struct {
		Count string   `xml:"Count,attr"`
		Flags string   `xml:"Flags,attr"`
		Param []string `xml:",omitempty"`
	}
}

// Encode writes the report.
func (r *Report) Encode() string {
	var h reportHeaderXML
	m := &h.Identification.Machine
	m.ClientInstalled, m.ClientType, m.ClientID, m.ClientVersion, m.NetBIOSName = "1", "1", string(r.ClientID), r.ClientVersion, r.NetBIOSName
	m.CodePage, m.SystemDefaultLCID = "437", "1033"
	d := &h.ReportDetails
	d.ReportContent, d.ReportType, d.Date, d.Version, d.Format = r.Content, "Delta", FormatCIM(r.Date), "1.0", "1.1"
	if r.Full {
		d.ReportType = "Full"
	}
	if r.ActionID != "" {
		h.InventoryAction = &inventoryActionXML{ActionType: "Predefined", ID: r.ActionID, Description: r.ActionName, Updated: FormatCIM(r.Date)}
	}
	var b strings.Builder
	b.WriteString("<Report>")
	b.WriteString(formatXML(h))
	b.WriteString("<ReportBody>")
	for _, i := range r.Instances {
		x := instanceXML{Content: "New", Namespace: i.Namespace, Class: i.Class, ParentClass: i.Class}
		x.Object.XMLName.Local = i.Class
		for _, p := range i.Properties {
			x.Object.Properties = append(x.Object.Properties, propertyXML{xml.Name{Local: p.Name}, p.Value})
		}
		b.WriteString(formatXML(x))
	}
	for _, s := range r.States {
		x := stateXML{Time: FormatCIM(s.Time), Serial: strconv.Itoa(s.SerialNumber)}
		x.State.Criticality, x.State.ID = strconv.Itoa(s.Criticality), strconv.Itoa(s.StateID)
		x.Topic.ID, x.Topic.IDType, x.Topic.Type = s.TopicID, "0", strconv.Itoa(s.TopicType)
		x.UserParameters.Count, x.UserParameters.Flags, x.UserParameters.Param = strconv.Itoa(len(s.Parameters)), "0", s.Parameters
		b.WriteString(formatXML(x))
	}
	b.WriteString("</ReportBody></Report>")
	return b.String()
}

// LastReport returns the last complete report in a message's text. Inventory
// messages carry two, an empty one and the full one, at offsets that working
// clients state wrongly (wire.md 8.2).
func LastReport(text string) (string, error) {
	end := strings.LastIndex(text, "</Report>")
	if end < 0 {
		return "", opencmg.Errorf(opencmg.Invalid, "message holds no complete report")
	}
	end += len("</Report>")
	start := strings.LastIndex(text[:end], "<Report>")
	if s := strings.LastIndex(text[:end], "<Report "); s > start {
		start = s
	}
	if start < 0 {
		return "", opencmg.Errorf(opencmg.Invalid, "message holds no complete report")
	}
	return text[start:end], nil
}

// ParseReport reads a report; use [LastReport] first. Properties of instances
// keep the text of their own element only. What is not understood is skipped,
// but the whole document is checked.
func ParseReport(text string) (*Report, error) {
	d := xml.NewTokenDecoder(boundedTokens(text))
	r := &Report{}
	seenHeader := false
	for {
		t, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "report is malformed", Err: err}
		}
		s, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		switch s.Name.Local {
		case "ReportHeader":
			var h reportHeaderXML
			if err := d.DecodeElement(&h, &s); err != nil {
				return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "report header is malformed", Err: err}
			}
			if err := r.header(&h); err != nil {
				return nil, err
			}
			seenHeader = true
		case "Instance":
			var x instanceXML
			if err := d.DecodeElement(&x, &s); err != nil {
				return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "report instance is malformed", Err: err}
			}
			i := Instance{Namespace: x.Namespace, Class: x.Class}
			for _, p := range x.Object.Properties {
				i.Properties = append(i.Properties, Property{p.XMLName.Local, strings.TrimSpace(p.Text)})
			}
			r.Instances = append(r.Instances, i)
		case "StateMessage":
			var x stateXML
			if err := d.DecodeElement(&x, &s); err != nil {
				return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "state message is malformed", Err: err}
			}
			r.States = append(r.States, StateMessage{
				Time: parseTime(x.Time), SerialNumber: number(x.Serial), Criticality: number(x.State.Criticality), StateID: number(x.State.ID),
				TopicID: x.Topic.ID, TopicType: number(x.Topic.Type), Parameters: x.UserParameters.Param,
			})
		}
	}
	if !seenHeader {
		return nil, opencmg.Errorf(opencmg.Invalid, "report has no header")
	}
	return r, nil
}

func (r *Report) header(h *reportHeaderXML) error {
	m := h.Identification.Machine
	if id := strings.TrimSpace(m.ClientID); id != "" {
		var err error
		if r.ClientID, err = opencmg.ParseClientID(id); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	r.ClientVersion, r.NetBIOSName = m.ClientVersion, m.NetBIOSName
	r.Content, r.Full, r.Date = h.ReportDetails.ReportContent, strings.EqualFold(h.ReportDetails.ReportType, "Full"), parseTime(h.ReportDetails.Date)
	if a := h.InventoryAction; a != nil {
		r.ActionID, r.ActionName = a.ID, a.Description
	}
	return nil
}

// A Status is a status message (endpoint StatusReceiver, wire.md 8.4).
type Status struct {
	Type       string
	Properties []Property
}

type statusXML struct {
	XMLName       xml.Name `xml:"Status"`
	SchemaVersion string   `xml:"SchemaVersion,attr"`
	CodePage      string   `xml:"CodePage,attr"`
	LocaleID      string   `xml:"LocaleID,attr"`
	Properties    struct {
		Property []hookProperty
	}
	Qualifiers struct{}
	Type       string
}

// Encode writes the status message.
func (s Status) Encode() string {
	x := statusXML{SchemaVersion: "1.00", CodePage: "437", LocaleID: "1033", Type: orDefault(s.Type, "SMS_GenericStatusMessage_Info")}
	for _, p := range s.Properties {
		x.Properties.Property = append(x.Properties.Property, hookProperty{p.Name, p.Value})
	}
	return formatXML(x)
}

// ParseStatus reads a status message.
func ParseStatus(text string) (Status, error) {
	var x statusXML
	if err := parseXML(text, &x); err != nil {
		return Status{}, fmt.Errorf("status message: %w", err)
	}
	s := Status{Type: x.Type}
	for _, p := range x.Properties.Property {
		s.Properties = append(s.Properties, Property{p.Name, strings.TrimSpace(p.Text)})
	}
	return s, nil
}

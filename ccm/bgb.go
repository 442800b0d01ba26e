package ccm

import (
	"crypto"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A FrameType is the kind of a notification frame (wire.md 9.2).
type FrameType uint16

// The frame types. 5 to 7 exist and were never seen.
const (
	FrameSignIn        FrameType = 0
	FrameSignInConfirm FrameType = 1
	FrameKeepAlive     FrameType = 2
	FrameRequest       FrameType = 3
	FrameResponse      FrameType = 4
)

// frameHead is u32 payload length, u16 1, u16 1, u32 header length, u16 type,
// all little-endian.
const frameHead = 14

// A Frame is one notification frame. Header is empty on TCP.
type Frame struct {
	Type    FrameType
	Header  []byte // XML of the HTTP form
	Payload []byte // message XML, UTF-8 without NUL
}

// Append writes the frame behind dst.
func (f Frame) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Header)+len(f.Payload)))
	dst = binary.LittleEndian.AppendUint16(dst, 1)
	dst = binary.LittleEndian.AppendUint16(dst, 1)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Header)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(f.Type))
	return append(append(dst, f.Header...), f.Payload...)
}

func parseFrameHead(b []byte) (f Frame, payload, header int, err error) {
	n, h := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[8:])
	if n > MaxFrame || h > n {
		return Frame{}, 0, 0, opencmg.Errorf(opencmg.TooLarge, "notification frame: a payload of %d bytes with a header of %d is not acceptable", n, h)
	}
	if binary.LittleEndian.Uint16(b[4:]) != 1 || binary.LittleEndian.Uint16(b[6:]) != 1 {
		return Frame{}, 0, 0, opencmg.Errorf(opencmg.Invalid, "notification frame: unknown version")
	}
	return Frame{Type: FrameType(binary.LittleEndian.Uint16(b[12:]))}, int(n), int(h), nil
}

// ParseFrame reads the first frame of b and returns what follows it.
func ParseFrame(b []byte) (Frame, []byte, error) {
	if len(b) < frameHead {
		return Frame{}, nil, opencmg.Errorf(opencmg.Invalid, "notification frame is cut short")
	}
	f, n, h, err := parseFrameHead(b)
	if err != nil {
		return Frame{}, nil, err
	}
	b = b[frameHead:]
	if len(b) < n {
		return Frame{}, nil, opencmg.Errorf(opencmg.Invalid, "notification frame is cut short")
	}
	f.Header, f.Payload = b[:h], b[h:n]
	return f, b[n:], nil
}

// ReadFrame reads one frame from a stream. It returns io.EOF when the stream
// ends between frames.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f, n, h, err := parseFrameHead(head[:])
	if err != nil {
		return Frame{}, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	f.Header, f.Payload = b[:h], b[h:]
	return f, nil
}

// A SignIn opens a notification connection; KeepAlive keeps it.
type SignIn struct {
	Time          time.Time
	ClientID      opencmg.ClientID
	ClientVersion string
}

// A Task is what the server asks a client to do.
type Task struct {
	Time     time.Time
	PushID   int
	TaskID   int
	TaskGUID string
	Type     int    // TaskMachinePolicy and the other Task constants
	Param    string // base64; empty for most
}

// A TaskResponse is a client's answer to a task; ReturnCode 0 is success.
type TaskResponse struct {
	Time       time.Time
	PushID     int
	TaskID     int
	ReturnCode int
}

type signInXML struct {
	XMLName       xml.Name
	TimeStamp     string `xml:"TimeStamp,attr"`
	ClientID      string
	ClientType    string
	ClientVersion string `xml:",omitempty"`
}

type signInConfirmXML struct {
	XMLName        xml.Name `xml:"BgbSignInConfirmMessage"`
	TimeStamp      string   `xml:"TimeStamp,attr"`
	MessageVersion string
}

type taskXML struct {
	XMLName   xml.Name `xml:"BgbRequestMessage"`
	TimeStamp string   `xml:"TimeStamp,attr"`
	PushID    string
	TaskID    string
	TaskGuid  string
	TaskType  string
	TaskParam string `xml:",omitempty"`
}

type taskResponseXML struct {
	XMLName    xml.Name `xml:"BgbResponseMessage"`
	TimeStamp  string   `xml:"TimeStamp,attr"`
	PushID     string
	TaskID     string
	ReturnCode string
}

// Frame returns the sign-in frame.
func (s SignIn) Frame() Frame { return s.frame(FrameSignIn, "BgbSignInMessage") }

// KeepAlive returns the keep-alive frame, which has no version.
func (s SignIn) KeepAlive() Frame {
	s.ClientVersion = ""
	return s.frame(FrameKeepAlive, "BgbKeepAliveMessage")
}

func (s SignIn) frame(t FrameType, name string) Frame {
	return Frame{Type: t, Payload: []byte(formatXML(signInXML{
		XMLName: xml.Name{Local: name}, TimeStamp: formatTime(s.Time), ClientID: string(s.ClientID), ClientType: "SCCM", ClientVersion: s.ClientVersion,
	}))}
}

// ParseSignIn reads the payload of a sign-in or keep-alive frame.
func ParseSignIn(f Frame) (SignIn, error) {
	var x signInXML
	if err := parseXML(string(f.Payload), &x); err != nil {
		return SignIn{}, fmt.Errorf("notification: %w", err)
	}
	id, err := opencmg.ParseClientID(x.ClientID)
	if err != nil {
		return SignIn{}, fmt.Errorf("notification: %w", err)
	}
	return SignIn{Time: parseTime(x.TimeStamp), ClientID: id, ClientVersion: x.ClientVersion}, nil
}

// SignInConfirm returns the server's answer to a sign-in.
func SignInConfirm(now time.Time) Frame {
	return Frame{Type: FrameSignInConfirm, Payload: []byte(formatXML(signInConfirmXML{TimeStamp: formatTime(now), MessageVersion: "1"}))}
}

// Frame returns the request frame for the task.
func (t Task) Frame() Frame {
	return Frame{Type: FrameRequest, Payload: []byte(formatXML(taskXML{
		TimeStamp: formatTime(t.Time), PushID: fmt.Sprint(t.PushID), TaskID: fmt.Sprint(t.TaskID), TaskGuid: t.TaskGUID, TaskType: fmt.Sprint(t.Type), TaskParam: t.Param,
	}))}
}

// ParseTask reads the payload of a request frame.
func ParseTask(f Frame) (Task, error) {
	var x taskXML
	if err := parseXML(string(f.Payload), &x); err != nil {
		return Task{}, fmt.Errorf("notification task: %w", err)
	}
	return Task{Time: parseTime(x.TimeStamp), PushID: number(x.PushID), TaskID: number(x.TaskID), TaskGUID: x.TaskGuid, Type: number(x.TaskType), Param: x.TaskParam}, nil
}

// Frame returns the response frame.
func (t TaskResponse) Frame() Frame {
	return Frame{Type: FrameResponse, Payload: []byte(formatXML(taskResponseXML{
		TimeStamp: formatTime(t.Time), PushID: fmt.Sprint(t.PushID), TaskID: fmt.Sprint(t.TaskID), ReturnCode: fmt.Sprint(t.ReturnCode),
	}))}
}

// ParseTaskResponse reads the payload of a response frame.
func ParseTaskResponse(f Frame) (TaskResponse, error) {
	var x taskResponseXML
	if err := parseXML(string(f.Payload), &x); err != nil {
		return TaskResponse{}, fmt.Errorf("notification response: %w", err)
	}
	return TaskResponse{Time: parseTime(x.TimeStamp), PushID: number(x.PushID), TaskID: number(x.TaskID), ReturnCode: number(x.ReturnCode)}, nil
}

// A ContinueRequest is the body of the HTTP form's Continue request (wire.md
// 9.3): how long the server may hold it, the session data of LogIn, and one
// signed frame.
type ContinueRequest struct {
	KeepAlive time.Duration // whole seconds
	Session   []byte
	Frame     Frame
	// SourceID and Signature come from the frame's header.
	SourceID  opencmg.ClientID
	Signature string
}

const maxSession = 4096

type continueHeaderXML struct {
	XMLName    xml.Name `xml:"Message"`
	SourceType string
	SourceID   string
	Hooks      struct {
		Hook struct {
			Name     string     `xml:"Name,attr"`
			Property []Property `xml:"Property"`
		}
	}
}

// Encode writes the body and signs the frame's payload with key.
func (c ContinueRequest) Encode(key crypto.Signer) ([]byte, error) {
	sig, err := SignNotification(key, c.Frame.Payload)
	if err != nil {
		return nil, err
	}
	h := continueHeaderXML{SourceType: "SCCM", SourceID: string(c.SourceID)}
	h.Hooks.Hook.Name = "Authentication"
	h.Hooks.Hook.Property = []Property{{"PayloadSignature", sig}}
	c.Frame.Header = []byte(formatXML(h))
	b := binary.LittleEndian.AppendUint32(nil, uint32(c.KeepAlive/time.Second))
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(c.Session))), c.Session...)
	return c.Frame.Append(b), nil
}

// ParseContinue reads the body of a Continue request. The signature is not
// checked; use [VerifyNotification] over Frame.Payload.
func ParseContinue(b []byte) (ContinueRequest, error) {
	bad := opencmg.Errorf(opencmg.Invalid, "notification request is cut short")
	if len(b) < 8 {
		return ContinueRequest{}, bad
	}
	seconds, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if b = b[8:]; n > maxSession || int(n) > len(b) {
		return ContinueRequest{}, bad
	}
	c := ContinueRequest{KeepAlive: time.Duration(min(seconds, 24*3600)) * time.Second, Session: b[:n]}
	var err error
	if c.Frame, _, err = ParseFrame(b[n:]); err != nil {
		return ContinueRequest{}, err
	}
	var h continueHeaderXML
	if err := parseXML(string(c.Frame.Header), &h); err != nil {
		return ContinueRequest{}, fmt.Errorf("notification request: %w", err)
	}
	if c.SourceID, err = opencmg.ParseClientID(h.SourceID); err != nil {
		return ContinueRequest{}, fmt.Errorf("notification request: %w", err)
	}
	for _, p := range h.Hooks.Hook.Property {
		if strings.EqualFold(p.Name, "PayloadSignature") {
			c.Signature = p.Value
		}
	}
	return c, nil
}

// EncodeLogIn writes the answer to LogIn: opaque session data behind its length.
func EncodeLogIn(session []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(session))), session...)
}

// ParseLogIn reads the answer to LogIn; an empty answer is an empty session.
func ParseLogIn(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || binary.LittleEndian.Uint32(b) > maxSession || int(binary.LittleEndian.Uint32(b)) > len(b)-4 {
		return nil, opencmg.Errorf(opencmg.Invalid, "notification session is malformed")
	}
	return b[4 : 4+binary.LittleEndian.Uint32(b)], nil
}

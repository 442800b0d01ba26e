package console

import (
	"testing"
	"time"
)

func TestParseLog(t *testing.T) {
	text := "<![LOG[one\r\ntwo]LOG]!><time=\"04:03:30.289-60\" date=\"11-27-2026\" component=\"CloudMgr\" context=\"\" type=\"3\" thread=\"12\" file=\"a.go:1\">\r\n" +
		"WARNING: slow~~  $$<SMS_CLOUD><11-27-2026 04:03:31.5+060><thread=7 (0x7)>\r\n" +
		"just text\n" + "<![LOG[cut"
	at := time.Date(2026, 11, 27, 3, 3, 30, 289e6, time.UTC)
	want := []logLine{
		{at, levelError, "CloudMgr", "12", "one\r\ntwo"},
		{time.Date(2026, 11, 27, 5, 3, 31, 5e8, time.UTC), levelWarning, "SMS_CLOUD", "7", "WARNING: slow"},
		{Level: levelInfo, Message: "just text"},
		{Level: levelInfo, Message: "<![LOG[cut"},
	}
	got := parseLog(text)
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// FuzzParseLog reads what site systems log, which the site believes to be text.
func FuzzParseLog(f *testing.F) {
	f.Add("<![LOG[a]LOG]!><time=\"04:03:30.289+000\" date=\"11-27-2026\" component=\"c\" type=\"2\" thread=\"1\">\n")
	f.Add("a~~  $$<c><11-27-2026 04:03:31.5+060><thread=7 (0x7)>\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range parseLog(text) {
			if l.Level < levelInfo || l.Level > levelError || len(l.Message) > 3*maxMessage+3 {
				t.Fatalf("%+v", l)
			}
		}
	})
}

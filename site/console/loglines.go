package console

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Log files in the two forms of CMTrace, read for people.

// A logLine is one record of a log file.
type logLine struct {
	Time      time.Time // zero when the line says none
	Level     int       // 1 information, 2 warning, 3 error
	Component string
	Thread    string
	Message   string
}

// Levels of records, as the format numbers them.
const (
	levelInfo = 1 + iota
	levelWarning
	levelError
)

// LevelName is the level in words.
func (l logLine) LevelName() string {
	switch l.Level {
	case levelWarning:
		return "warning"
	case levelError:
		return "error"
	}
	return "info"
}

// Tone is the colour of the level.
func (l logLine) Tone() string {
	switch l.Level {
	case levelWarning:
		return "warn"
	case levelError:
		return "bad"
	}
	return "none"
}

// Clock is the time in UTC, to the millisecond.
func (l logLine) Clock() string {
	if l.Time.IsZero() {
		return ""
	}
	return l.Time.UTC().Format("2006-01-02 15:04:05.000")
}

const (
	recordBegins = "<![LOG["
	recordEnds   = "]LOG]!>"
)

var (
	fieldPattern  = regexp.MustCompile(`([a-z]+)="([^"]*)"`)
	serverPattern = regexp.MustCompile(`^(.*?)(?:~~)?\s*\$\$<([^<>]*)><(\d\d-\d\d-\d{4} \d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d{1,4})><thread=(\d+)`)
	levelPattern  = regexp.MustCompile(`^(?i)(error|warning|warn)\b`)
)

// maxMessage bounds what is shown of one record, in bytes.
const maxMessage = 8 << 10

// parseLog reads the records of a text. What is no record is shown as it is.
func parseLog(text string) (lines []logLine) {
	for text != "" {
		if strings.HasPrefix(text, recordBegins) {
			message, rest, whole := strings.Cut(text[len(recordBegins):], recordEnds)
			if whole {
				var fields string
				fields, text, _ = strings.Cut(rest, "\n")
				lines = append(lines, clientLine(message, fields))
				continue
			}
		}
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if line = strings.TrimRight(line, "\r"); line != "" {
			lines = append(lines, serverLine(line))
		}
	}
	return lines
}

func clientLine(message, fields string) logLine {
	l := logLine{Level: levelInfo, Message: shorten(message)}
	var day, clock string
	for _, f := range fieldPattern.FindAllStringSubmatch(fields, 16) {
		switch f[1] {
		case "time":
			clock = f[2]
		case "date":
			day = f[2]
		case "component":
			l.Component = f[2]
		case "thread":
			l.Thread = f[2]
		case "type":
			if n, err := strconv.Atoi(f[2]); err == nil && n >= levelInfo && n <= levelError {
				l.Level = n
			}
		}
	}
	if i := strings.LastIndexAny(clock, "+-"); i > 0 {
		l.Time = localTime(day+" "+clock[:i], clock[i:])
	}
	return l
}

func serverLine(line string) logLine {
	m := serverPattern.FindStringSubmatch(line)
	if m == nil {
		return logLine{Level: levelInfo, Message: shorten(line)}
	}
	l := logLine{Level: levelInfo, Message: shorten(strings.ReplaceAll(m[1], "~~", "\n")), Component: m[2], Time: localTime(m[3], m[4]), Thread: m[5]}
	// This form has no field for the level.
	switch strings.ToLower(levelPattern.FindString(l.Message)) {
	case "error":
		l.Level = levelError
	case "warning", "warn":
		l.Level = levelWarning
	}
	return l
}

// localTime reads a time with the minutes that lead from it to UTC; zero when it
// is none.
func localTime(s, bias string) time.Time {
	t, err := time.Parse("01-02-2006 15:04:05.999999999", s)
	minutes, berr := strconv.Atoi(bias)
	if err != nil || berr != nil {
		return time.Time{}
	}
	return t.Add(time.Duration(minutes) * time.Minute)
}

func shorten(s string) string {
	s = strings.TrimRight(s, "\r\n ")
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// Log files: which there are, and one of them with its live tail.

func logViews(now func() time.Time) []view {
	return []view{
		{pattern: "logs", node: "logs", title: "Logs", template: "logs", load: func(v *Visit) (any, error) { return loadLogs(v, now()) }},
		{pattern: "logs/{id}", node: "logs", title: "Log", template: "log", load: func(v *Visit) (any, error) { return loadLog(v, now()) }},
	}
}

func logAnswers(c *Console) []rawAnswer {
	return []rawAnswer{
		{method: "GET", pattern: "logs/{id}/tail", serve: c.serveTail},
		{method: "GET", pattern: "logs/{id}/download", serve: serveLogFile},
	}
}

// A logGroup is the log files of one part of the system.
type logGroup struct {
	Name  string
	Files []adminservice.LogFile
	Fresh logFresh
}

// A logFresh says how fresh the lines of a part are.
type logFresh struct {
	Own bool // written here, at once
	adminservice.LogFile
	Silent bool // nothing was reported for longer than silentAfter
}

// silentAfter is how long no report is usual.
const silentAfter = 2 * time.Minute

func freshOf(f adminservice.LogFile, now time.Time) logFresh {
	return logFresh{Own: partOfLog(f.Name) == ownLog, LogFile: f, Silent: now.Sub(f.Reported) > silentAfter}
}

// Late says how old the newest lines were when they came.
func (f logFresh) Late() string {
	switch {
	case f.DelaySeconds == 0:
		return ""
	case f.DelaySeconds < 1:
		return "less than a second"
	}
	return showDuration(time.Duration(f.DelaySeconds * float64(time.Second)).Round(time.Second))
}

// ownLog is the part that a file of the site's own is of.
const ownLog = "Site server"

type logsPage struct {
	Find   string
	Groups []logGroup
}

var (
	instanceLog = regexp.MustCompile(`^CMG-(.+)-(\d+)-[^-]+\.(?:log|lo_)$`)
	pointLog    = regexp.MustCompile(`^CP-(.+)-[^-]+\.(?:log|lo_)$`)
	mpLog       = regexp.MustCompile(`^MP-(.+)-[^-]+\.(?:log|lo_)$`)
)

// partOfLog is the part of the system that wrote a file, in words.
func partOfLog(name string) string {
	if m := instanceLog.FindStringSubmatch(name); m != nil {
		return "Gateway instance " + m[1] + "/" + m[2]
	}
	if m := pointLog.FindStringSubmatch(name); m != nil {
		return "Connection point " + m[1]
	}
	if m := mpLog.FindStringSubmatch(name); m != nil {
		return "Management point " + m[1]
	}
	return ownLog
}

func loadLogs(v *Visit, now time.Time) (any, error) {
	files, err := list[adminservice.LogFile](v, "Logs")
	if err != nil {
		return nil, err
	}
	p := logsPage{Find: v.Query("find")}
	for _, f := range files {
		if p.Find != "" && !strings.Contains(strings.ToLower(f.Name), strings.ToLower(p.Find)) {
			continue
		}
		part := partOfLog(f.Name)
		i := slices.IndexFunc(p.Groups, func(g logGroup) bool { return g.Name == part })
		if i < 0 {
			i = len(p.Groups)
			p.Groups = append(p.Groups, logGroup{Name: part, Fresh: freshOf(f, now)})
		}
		p.Groups[i].Files = append(p.Groups[i].Files, f)
	}
	// The site's own first, the others by name.
	slices.SortStableFunc(p.Groups, func(a, b logGroup) int {
		own := func(g logGroup) int {
			if g.Name == ownLog {
				return 0
			}
			return 1
		}
		if d := own(a) - own(b); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return p, nil
}

const (
	// shownLines bounds the lines that a page shows, and that its script keeps.
	shownLines = 1000
	// readTail is how much of a file's end is read for a page, in bytes; with a
	// filter, as much as the service answers.
	readTail = 512 << 10
)

type logPage struct {
	Name, Part string
	Position   string
	Level      int
	Find       string
	Lines      []logLine
	Most       int
	// Fresh is of the file, and Kept what the download has, in bytes.
	Fresh logFresh
	Kept  int64
}

func loadLog(v *Visit, now time.Time) (any, error) {
	p := logPage{Name: v.ID(), Part: partOfLog(v.ID()), Find: v.Query("text"), Most: shownLines, Level: levelInfo}
	if n, err := strconv.Atoi(v.Query("level")); err == nil && n >= levelInfo && n <= levelError {
		p.Level = n
	}
	tail := readTail
	if p.Find != "" || p.Level > levelInfo {
		tail = adminservice.MaxLogAnswer
	}
	text, header, err := v.Client.Text(v.Context(), "Logs/"+url.PathEscape(p.Name)+"?tail="+strconv.Itoa(tail))
	if err != nil {
		return nil, err
	}
	p.Position = header.Get(adminservice.LogPosition)
	p.Lines = lastLines(text, p.Level, p.Find)
	p.Fresh, p.Kept, err = freshness(v, p.Name, now)
	return p, err
}

// freshness says how fresh a file is, and how large with the one before it.
func freshness(v *Visit, name string, now time.Time) (fresh logFresh, kept int64, err error) {
	files, err := list[adminservice.LogFile](v, "Logs")
	if err != nil {
		return fresh, 0, err
	}
	older := strings.TrimSuffix(name, ".log") + ".lo_"
	for _, f := range files {
		switch f.Name {
		case name:
			fresh = freshOf(f, now)
			kept += f.Size
		case older:
			kept += f.Size
		}
	}
	return fresh, kept, nil
}

// lastLines are the last records of a text that pass the filter.
func lastLines(text []byte, level int, find string) []logLine {
	find = strings.ToLower(find)
	lines := slices.DeleteFunc(parseLog(string(text)), func(l logLine) bool {
		return l.Level < level || find != "" && !strings.Contains(strings.ToLower(l.Message+" "+l.Component), find)
	})
	return lines[max(0, len(lines)-shownLines):]
}

// A logTail is what was written since a position.
type logTail struct {
	Position string `json:"position"`
	HTML     string `json:"html"` // of the lines
	// Fresh is HTML that says how fresh they are, where it was asked for.
	Fresh string `json:"fresh,omitempty"`
}

// serveTail answers the lines behind the position in the query parameter after.
func (c *Console) serveTail(w http.ResponseWriter, v *Visit) error {
	text, header, err := v.Client.Text(v.Context(), "Logs/"+url.PathEscape(v.ID())+"?after="+url.QueryEscape(v.Query("after")))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := c.templates.all.ExecuteTemplate(&b, "log-lines", lastLines(text, levelInfo, "")); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	tail := logTail{Position: header.Get(adminservice.LogPosition), HTML: strings.TrimSpace(b.String())}
	if v.Query("fresh") != "" {
		fresh, _, err := freshness(v, v.ID(), c.cfg.Now())
		if err != nil {
			return err
		}
		b.Reset()
		if err := c.templates.all.ExecuteTemplate(&b, "log-fresh", fresh); err != nil {
			return err
		}
		tail.Fresh = strings.TrimSpace(b.String())
	}
	return json.NewEncoder(w).Encode(tail)
}

// serveLogFile answers all that is kept of a log as CMTrace reads it: the file
// before it, and then the file. Both are small: they are renamed at 250,000 bytes.
func serveLogFile(w http.ResponseWriter, v *Visit) error {
	text, _, err := v.Client.Text(v.Context(), "Logs/"+url.PathEscape(v.ID())+"?whole=true")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' || r > '~' {
			return '_'
		}
		return r
	}, v.ID())+`"`)
	w.Write(text)
	return nil
}

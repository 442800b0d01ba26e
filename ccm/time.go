package ccm

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// formatTime writes the time of headers and registrations.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// parseTime reads ISO 8601 with up to seven decimals, or a CIM date-time; the
// zero time when it is neither.
func parseTime(s string) time.Time {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC()
	}
	t, err := ParseCIM(s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// FormatCIM writes a CIM date-time, as in reports: yyyyMMddHHmmss.ffffff and
// the offset from UTC in minutes, here always +000.
func FormatCIM(t time.Time) string { return t.UTC().Format("20060102150405.000000") + "+000" }

// ParseCIM reads a CIM date-time and returns it in UTC.
func ParseCIM(s string) (time.Time, error) {
	const layout = "20060102150405.000000"
	if len(s) != len(layout)+4 || (s[len(layout)] != '+' && s[len(layout)] != '-') {
		return time.Time{}, fmt.Errorf("CIM date-time: must look like 20260131093000.000000+000")
	}
	t, err := time.Parse(layout, s[:len(layout)])
	if err != nil {
		return time.Time{}, fmt.Errorf("CIM date-time: %w", err)
	}
	offset, err := strconv.Atoi(s[len(layout):])
	if err != nil {
		return time.Time{}, fmt.Errorf("CIM date-time: %w", err)
	}
	return t.Add(-time.Duration(offset) * time.Minute), nil
}

package console

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Chart is a plot over time, with the same numbers as a table for those who
// can not see it.
type Chart struct {
	Title string `json:"title"`
	// Unit is requests, bytes, ms, GB, % or clients.
	Unit string `json:"unit"`
	// Times are the points, in seconds since 1970.
	Times  []int64  `json:"times"`
	Series []Series `json:"series"`
	// Stacked puts the series on top of each other.
	Stacked bool `json:"stacked,omitempty"`
	// Marks are horizontal lines.
	Marks []Mark `json:"marks,omitempty"`
}

// A Series is one line of a [Chart]. A nil value is a gap.
type Series struct {
	Label  string     `json:"label"`
	Values []*float64 `json:"values"`
	// Dashed is how the series before goes on: in its colour, and dashed.
	Dashed bool `json:"dashed,omitempty"`
}

// A Mark is a horizontal line of a [Chart], such as a threshold.
type Mark struct {
	Label string  `json:"label"`
	Value float64 `json:"value"`
	Tone  string  `json:"tone"` // warn, bad or text
}

// maxTableRows bounds the rows of the table behind a chart: it is for people.
const maxTableRows = 48

func showChart(c Chart) (template.HTML, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	esc := template.HTMLEscapeString
	var s strings.Builder
	fmt.Fprintf(&s, `<figure class="chart" data-chart="%s"><figcaption>%s</figcaption><div class="plot" role="img" aria-label="%s"></div><details><summary>As a table</summary><div class="scroll" tabindex="0" role="region" aria-label="%s as a table"><table><thead><tr><th scope="col">Time (UTC)</th>`, esc(string(b)), esc(c.Title), esc(c.Title), esc(c.Title))
	for _, one := range c.Series {
		fmt.Fprintf(&s, `<th scope="col">%s</th>`, esc(one.Label))
	}
	s.WriteString(`</tr></thead><tbody>`)
	step := max(1, (len(c.Times)+maxTableRows-1)/maxTableRows)
	for i := len(c.Times) - 1; i >= 0; i -= step {
		fmt.Fprintf(&s, `<tr><th scope="row">%s</th>`, time.Unix(c.Times[i], 0).UTC().Format("01-02 15:04"))
		for _, one := range c.Series {
			text := ""
			if i < len(one.Values) && one.Values[i] != nil {
				text = inUnit(*one.Values[i], c.Unit)
			}
			fmt.Fprintf(&s, `<td>%s</td>`, esc(text))
		}
		s.WriteString(`</tr>`)
	}
	s.WriteString(`</tbody></table></div>`)
	if len(c.Marks) > 0 {
		var marks []string
		for _, m := range c.Marks {
			marks = append(marks, m.Label+" "+inUnit(m.Value, c.Unit))
		}
		fmt.Fprintf(&s, `<p class="dim">Lines: %s</p>`, esc(strings.Join(marks, ", ")))
	}
	s.WriteString(`</details></figure>`)
	return template.HTML(s.String()), nil
}

func inUnit(f float64, unit string) string {
	switch unit {
	case "bytes":
		return showBytes(f)
	case "ms", "GB", "%":
		return strconv.FormatFloat(f, 'f', 1, 64) + " " + unit
	}
	return showNumber(math.Round(f*10) / 10)
}

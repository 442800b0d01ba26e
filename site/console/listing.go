package console

import (
	"maps"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// Lists that may grow: the administration service searches and cuts them, and a
// page shows one part, with a search and the way to the other parts.

// listPage is how many objects a page of a list shows.
const listPage = 50

// A span is the part of a list that a page shows. html/listing.html shows it.
type span struct {
	Address           string // of the page, below Path
	Skip, First, Last int
	Total             int    // of what was chosen; -1: nobody counted
	Earlier, Later    string // addresses of the pages beside it, empty where there is none
	Search            string // the text that was looked for
	Chosen            bool   // something was chosen, so that the list may have more
	ByTime            bool   // the newest first
}

// Behind reports whether the page is behind the end of the list.
func (s span) Behind() bool { return s.Skip > 0 && s.Last <= s.Skip }

// Searchable reports whether there is anything to look for.
func (s span) Searchable() bool { return s.Total != 0 || s.Chosen || s.Skip > 0 }

// newest says that the list has the newest first.
func (s span) newest() span {
	s.ByTime = true
	return s
}

// skipOf is how many objects of a list come before those of the page.
func skipOf(v *Visit) int {
	n, err := strconv.Atoi(v.Query("skip"))
	if err != nil || n < 0 || n > 10_000_000 {
		return 0
	}
	return n
}

// spanOf says what the page at address shows of a list, whose query is otherwise
// q. It shows here objects, and more says that others follow.
func spanOf(address string, q url.Values, skip, here, total int, more bool) span {
	at := func(skip int) string {
		p := url.Values{}
		maps.Copy(p, q)
		if skip > 0 {
			p.Set("skip", strconv.Itoa(skip))
		}
		if len(p) == 0 {
			return Path + address
		}
		return Path + address + "?" + p.Encode()
	}
	s := span{Address: address, Skip: skip, First: skip + 1, Last: skip + here, Total: total, Search: q.Get("search"), Chosen: len(q) > 0}
	if here == 0 {
		s.First = skip
	}
	if skip > 0 {
		s.Earlier = at(max(0, skip-listPage))
	}
	if more {
		s.Later = at(skip + listPage)
	}
	return s
}

// somePage is the part of a list that a page shows.
type somePage[T any] struct {
	List []T
	Span span
}

// some loads the part of a collection that the page at address shows, of what its
// search finds. asked is the collection's own query, or nil; keep are the
// parameters of the page, beside the search, that the links to other parts
// repeat.
func some[T any](v *Visit, address, collection string, asked url.Values, keep ...string) (p somePage[T], err error) {
	shown := filterOf(v, append(keep, "search")...)
	query := url.Values{}
	maps.Copy(query, asked)
	if text := shown.Get("search"); text != "" {
		query.Set("search", text)
	}
	skip := skipOf(v)
	query.Set("$top", strconv.Itoa(listPage))
	query.Set("$skip", strconv.Itoa(skip))
	query.Set("$count", "true")
	found, err := get[adminservice.Page[T]](v, collection+"?"+query.Encode())
	if err != nil {
		return p, err
	}
	total := 0
	if found.Count != nil {
		total = *found.Count
	}
	return somePage[T]{found.Value, spanOf(address, shown, skip, len(found.Value), total, found.Next != "")}, nil
}

// filterOf makes a query of those parameters of the page that are not empty.
func filterOf(v *Visit, names ...string) url.Values {
	q := url.Values{}
	for _, name := range names {
		if s := v.Query(name); s != "" {
			q.Set(name, s)
		}
	}
	return q
}

// backTo is the page of a list, at the part and with the search that the form
// was sent from.
func backTo(v *Visit, page string) string {
	from, err := url.Parse(v.Request.Referer())
	if err != nil || from.Path != Path+page || from.RawQuery == "" {
		return page
	}
	return page + "?" + strings.ReplaceAll(from.RawQuery, "\n", "")
}

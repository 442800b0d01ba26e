package sitedb

import (
	"context"
	"strings"

	"github.com/opencmg/opencmg"
)

// An ObjectFilter chooses objects of a kind.
type ObjectFilter struct {
	Kind string
	// Text is part of the name, of the ID, or of one of the members of the body;
	// empty chooses all. The case does not matter, in members that of ASCII
	// letters.
	Text string
	// Members are the names of members of the body that hold texts or lists of
	// texts. A dot leads into an object. They come from the program, not from
	// whoever searches.
	Members []string
	// Newest orders by time, the last made first, instead of by name.
	Newest bool
}

func (db *DB) objectWhere(f *ObjectFilter) *where {
	var w where
	w.add("kind = ?", f.Kind)
	if f.Text == "" {
		return &w
	}
	// Both engines know the capitals of ASCII only; names are kept in small
	// letters of every alphabet.
	parts := []string{`name_key LIKE ? ESCAPE '\'`, `UPPER(id) LIKE ? ESCAPE '\'`}
	args := []any{pattern(strings.ToLower(f.Text)), likeASCII(f.Text)}
	for _, m := range f.Members {
		member := "json_extract(body, '$." + m + "')"
		if db.postgres {
			member = "CAST(body AS json) #>> '{" + strings.ReplaceAll(m, ".", ",") + "}'"
		}
		parts = append(parts, "UPPER("+member+`) LIKE ? ESCAPE '\'`)
		args = append(args, likeASCII(f.Text))
	}
	w.add("("+strings.Join(parts, " OR ")+")", args...)
	return &w
}

// ListObjects returns the objects that the filter chooses, at most limit behind
// the first offset ones, and how many there are in all.
func (db *DB) ListObjects(ctx context.Context, f ObjectFilter, offset, limit int) (list []Object, total int, err error) {
	what := "list objects of kind " + f.Kind
	w := db.objectWhere(&f)
	if err := db.row(ctx, "SELECT COUNT(*) FROM objects"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, what)
	}
	order := " ORDER BY name_key, id"
	if f.Newest {
		order = " ORDER BY created DESC, id"
	}
	rows, err := db.query(ctx, strings.TrimSuffix(selectObject, " ")+w.sql()+order+" LIMIT ? OFFSET ?", append(w.args, limit, offset)...)
	list, err = collect(rows, err, scanObject)
	return list, total, wrap(err, what)
}

// BulkTokens returns the bulk registration tokens whose ID, group or description
// contains the text, without the case of ASCII letters, or all without one: the
// latest first, at most limit behind the first offset ones, and how many there
// are in all.
func (db *DB) BulkTokens(ctx context.Context, text string, offset, limit int) (list []Token, total int, err error) {
	const what = "list bulk registration tokens"
	var w where
	// Written out, for an index to be found by.
	w.add("kind = '" + string(opencmg.AuthBulkToken) + "'")
	if text != "" {
		p := likeASCII(text)
		w.add(`(UPPER(id) LIKE ? ESCAPE '\' OR UPPER(group_name) LIKE ? ESCAPE '\' OR UPPER(description) LIKE ? ESCAPE '\')`, p, p, p)
	}
	if err := db.row(ctx, "SELECT COUNT(*) FROM tokens"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, what)
	}
	list, err = db.tokens(ctx, strings.TrimPrefix(w.sql(), " ")+" ORDER BY issued DESC, id LIMIT ? OFFSET ?", append(w.args, limit, offset)...)
	return list, total, err
}

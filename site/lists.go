package site

import (
	"net/http"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// A listing says how the objects of a kind are listed.
type listing struct {
	// searched are the members of the record that a search looks at, beside name
	// and ID.
	searched []string
	newest   bool // first; else by name
}

// listings are by kind. A kind that is not here is listed by name, and searched
// by name and ID.
var listings = map[string]listing{
	kindAccount:       {searched: []string{"role", "thumbprint", "entraObjectId"}},
	kindGateway:       {searched: []string{"serviceName", "deploymentName", "model", "state", "region", "resourceGroup", "subscriptionId", "settings.description"}},
	kindPoint:         {searched: []string{"connectionId"}},
	kindRole:          {searched: []string{"kind", "roleId", "internal", "prefix"}},
	kindTrusted:       {searched: []string{"store", "thumbprint", "revocationList"}},
	kindTokenIssuer:   {searched: []string{"issuer", "audience"}},
	kindBlocked:       {searched: []string{"reason", "client"}, newest: true},
	kindJoinToken:     {searched: []string{"kind", "gatewayId", "sources", "hosts"}, newest: true},
	kindBoundaryGroup: {searched: []string{"description", "boundaries"}},
}

// list answers with the records of a kind, each as show gives it.
func list[T, U any](s *Server, kind string, show func(*record[T]) U) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return answerRecords(s, w, r, kind, func(rec *record[T]) (U, error) { return show(rec), nil })
	}
}

// one answers with the record of a kind that the path names.
func one[T, U any](s *Server, kind string, show func(*record[T]) U) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		rec, err := read[T](r.Context(), s.db, kind, r.PathValue("id"))
		if err != nil {
			return err
		}
		return answerOne(w, http.StatusOK, rec.Version, show(rec))
	}
}

// answerRecords answers with those records of a kind that the query asks for.
func answerRecords[T, U any](s *Server, w http.ResponseWriter, r *http.Request, kind string, show func(*record[T]) (U, error)) error {
	l := listings[kind]
	f := sitedb.ObjectFilter{Kind: kind, Text: r.URL.Query().Get("search"), Members: l.searched, Newest: l.newest}
	return answerRead(w, r, mostObjects, func(offset, limit int) (list []U, total int, err error) {
		objects, total, err := s.db.ListObjects(r.Context(), f, offset, limit)
		if err != nil {
			return nil, 0, err
		}
		for _, o := range objects {
			rec, err := decode[T](o)
			if err != nil {
				return nil, 0, err
			}
			shown, err := show(rec)
			if err != nil {
				return nil, 0, err
			}
			list = append(list, shown)
		}
		return list, total, nil
	})
}

// mostObjects bounds what a $filter or $orderby looks at.
const mostObjects = 20_000

// answerRead answers with a list that read takes from the database, at most
// limit behind the first offset, with how many there are. The database cuts the
// page; only a $filter or an order other than its own needs to see all, at most
// most.
func answerRead[T any](w http.ResponseWriter, r *http.Request, most int, read func(offset, limit int) ([]T, int, error)) error {
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	if q.Filter != nil || len(q.OrderBy) > 0 {
		list, _, err := read(0, most)
		if err != nil {
			return err
		}
		return answerList(w, r, list)
	}
	list, total, err := read(q.Skip, q.Top)
	if err != nil {
		return err
	}
	return answerCut(w, r, q, list, total)
}

// answerCut answers a page that the database cut out of total objects.
func answerCut[T any](w http.ResponseWriter, r *http.Request, q adminservice.Query, list []T, total int) error {
	objects, err := toMaps(list)
	if err != nil {
		return err
	}
	return answerPage(w, r, q, q.Project(objects), total)
}

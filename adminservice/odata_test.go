package adminservice_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

func objects() []map[string]any {
	return []map[string]any{
		{"name": "Alpha", "instances": 2.0, "ready": true, "created": "2026-11-01T10:00:00Z", "status": map[string]any{"version": 7.0}},
		{"name": "beta", "instances": 16.0, "ready": false, "created": "2026-11-20T10:00:00Z"},
		{"name": "O'Hara", "instances": 1.0, "description": nil, "created": "2026-11-26T10:00:00Z"},
	}
}

func names(page []map[string]any) string {
	var list []string
	for _, o := range page {
		list = append(list, o["name"].(string))
	}
	return strings.Join(list, " ")
}

func TestQuery(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{"", "Alpha beta O'Hara"},
		{"$filter=name eq 'ALPHA'", "Alpha"},
		{"$filter=Name ne 'alpha'", "beta O'Hara"},
		{"$filter=name eq 'O''Hara'", "O'Hara"},
		{"$filter=instances gt 1 and instances lt 16", "Alpha"},
		{"$filter=instances ge 16 or ready eq true", "Alpha beta"},
		{"$filter=not (ready eq true)", "beta O'Hara"},
		{"$filter=contains(name,'HA')", "Alpha O'Hara"},
		{"$filter=startswith(name, 'b') or endswith(name,'ara')", "beta O'Hara"},
		{"$filter=description eq null", "Alpha beta O'Hara"},
		{"$filter=ready ne null", "Alpha beta"},
		{"$filter=created gt 2026-11-15T00:00:00Z", "beta O'Hara"},
		{"$filter=status/version eq 7", "Alpha"},
		{"$filter=missing gt 3", ""},
		{"$orderby=instances desc", "beta Alpha O'Hara"},
		{"$orderby=ready asc,name desc", "O'Hara beta Alpha"},
		{"$top=1&$skip=1", "beta"},
		{"$skip=9", ""},
	} {
		v, err := url.ParseQuery(strings.ReplaceAll(tt.query, " ", "%20"))
		if err != nil {
			t.Fatal(err)
		}
		q, err := adminservice.ParseQuery(v)
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		if page, _ := q.Apply(objects()); names(page) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.query, names(page), tt.want)
		}
	}
}

func TestSelectAndCount(t *testing.T) {
	q, err := adminservice.ParseQuery(url.Values{"$select": {"Name, ready"}, "$count": {"true"}, "$top": {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	page, total := q.Apply(objects())
	if diff := cmp.Diff([]map[string]any{{"name": "Alpha", "ready": true}}, page); diff != "" || total != 3 || !q.Count {
		t.Errorf("total %d, count %v\n%s", total, q.Count, diff)
	}
}

func TestBadQueries(t *testing.T) {
	for _, bad := range []string{
		"$filter=", "$filter=name", "$filter=name eq", "$filter=name eq alpha", "$filter=name eq 'a", "$filter=(name eq 'a'", "$filter=name eq 'a' and",
		"$filter=contains(name)", "$filter=contains(name,3)", "$filter=name like 'a'", "$filter=1 eq 1", "$filter=name eq 'a' x",
		"$filter=" + strings.Repeat("(", 40), "$filter=" + strings.Repeat("x", 5000),
		"$top=-1", "$top=x", "$skip=1.5", "$count=maybe", "$orderby=name up", "$expand=x", "$top=1&$top=2",
	} {
		v, err := url.ParseQuery(strings.ReplaceAll(bad, " ", "%20"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := adminservice.ParseQuery(v); !errors.Is(err, opencmg.Invalid) && !errors.Is(err, opencmg.TooLarge) {
			t.Errorf("%.60s: got %v", bad, err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("name eq 'O''Hara' and not (instances ge 2)")
	f.Add("contains(name,'x') or created lt 2026-11-15T00:00:00Z")
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := adminservice.ParseFilter(s)
		if err != nil {
			return
		}
		for _, o := range objects() {
			filter(o)
		}
	})
}

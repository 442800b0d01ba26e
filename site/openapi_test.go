package site_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
)

var update = flag.Bool("update", false, "write the generated schemas into adminservice/openapi.yaml")

const (
	openAPIFile = "../adminservice/openapi.yaml"
	// schemasBegin is the line behind which everything is generated.
	schemasBegin = "  schemas:\n"
)

// The types that requests take and that answers give. What they hold comes
// with them. A pageOf type has a schema of its own for its pages.
var (
	requestTypes = []any{
		adminservice.Account{}, adminservice.TenantChange{}, adminservice.ImportApplication{}, adminservice.CreateApplications{}, adminservice.RenewSecret{}, adminservice.UpdateSettings{},
		adminservice.RegisterProviders{}, adminservice.AzureService{}, adminservice.AzureServiceChange{}, adminservice.ServerCertificate{},
		adminservice.TrustedCertificate{}, adminservice.TokenIssuer{}, adminservice.BlockedCertificate{}, adminservice.NewBulkToken{}, adminservice.RemoveInstance{},
		adminservice.JoinTokenRecord{}, adminservice.NewGateway{}, adminservice.GatewayChange{}, adminservice.ConnectionPointChange{},
		adminservice.SiteRole{}, adminservice.SiteRoleChange{}, adminservice.CmdletCall{},
		adminservice.ClientSettingsChange{}, adminservice.BoundaryGroup{}, adminservice.BoundaryGroupChange{},
		adminservice.ChecklistRequest{}, adminservice.FeatureChange{},
		adminservice.NewAnalysis{}, adminservice.AnalysisScheduleChange{},
		adminservice.BlockClient{}, adminservice.NotifyClient{}, adminservice.NotifyClients{},
	}
	pageTypes = []any{
		adminservice.Account{}, adminservice.Tenant{}, adminservice.Application{}, adminservice.AzureService{}, adminservice.TrustedCertificate{},
		adminservice.TokenIssuer{}, adminservice.BlockedCertificate{}, adminservice.BulkRegistrationToken{}, adminservice.JoinTokenRecord{},
		adminservice.Gateway{}, adminservice.ConnectionPoint{}, adminservice.SiteRole{}, adminservice.Operation{}, adminservice.StatusMessage{},
		adminservice.Alert{}, adminservice.Expiry{}, adminservice.GatewayTraffic{}, opencmg.Check{}, adminservice.User{}, adminservice.Group{},
		adminservice.ClientSettings{}, adminservice.BoundaryGroup{},
		adminservice.LogFile{},
		adminservice.ChecklistItem{}, opencmg.ProbeTarget{}, adminservice.FirewallRule{}, adminservice.Feature{},
		adminservice.Analysis{},
		adminservice.Subscription{}, adminservice.Region{}, adminservice.ResourceGroup{},
		adminservice.RegisteredClient{}, adminservice.ClientOperation{}, adminservice.ClientNotification{}, adminservice.SiteToken{},
	}
	otherTypes = []any{
		adminservice.Site{}, adminservice.Dashboard{}, adminservice.CertificateReport{}, adminservice.ProblemError{},
		adminservice.CmdletLine{},
		adminservice.Explanation{}, adminservice.AnalysisSchedule{},
		adminservice.ClientDetails{}, adminservice.Inventory{},
	}
)

// enums are the texts of types that have only some.
var enums = map[reflect.Type][]string{
	reflect.TypeFor[adminservice.Role]():   texts(adminservice.Roles()...),
	reflect.TypeFor[opencmg.VMSize]():      texts(opencmg.SizeLab, opencmg.SizeStandard, opencmg.SizeLarge),
	reflect.TypeFor[opencmg.Environment](): texts(opencmg.AzurePublicCloud, opencmg.AzureUSGovernmentCloud, opencmg.AzureLab),
	reflect.TypeFor[opencmg.CheckState]():  texts(opencmg.CheckPass, opencmg.CheckWarn, opencmg.CheckFail, opencmg.CheckTodo),
}

func texts[T ~string](list ...T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

// schemas writes the schemas section.
type schemas struct {
	docs     map[string]string // by type and by type.field
	requests map[reflect.Type]bool
	done     map[string]reflect.Type
	text     map[string]string
}

func TestOpenAPISchemas(t *testing.T) {
	s := &schemas{docs: goComments(t), requests: map[reflect.Type]bool{}, done: map[string]reflect.Type{}, text: map[string]string{}}
	for _, v := range requestTypes {
		s.markRequest(reflect.TypeOf(v))
	}
	for _, v := range slices.Concat(requestTypes, pageTypes, otherTypes) {
		s.object(t, reflect.TypeOf(v))
	}
	for _, v := range pageTypes {
		name := reflect.TypeOf(v).Name()
		s.text[name+"Page"] = fmt.Sprintf("    %sPage:\n      type: object\n      required: [value]\n      properties:\n        \"@odata.count\": {type: integer}\n        \"@odata.nextLink\": {type: string}\n        value: {type: array, items: {$ref: '#/components/schemas/%s'}}\n", name, name)
	}
	var b strings.Builder
	for _, name := range sortedKeys(s.text) {
		b.WriteString(s.text[name])
	}
	head, have, found := strings.Cut(string(adminservice.OpenAPI()), schemasBegin)
	if !found {
		t.Fatalf("%s has no line %q", openAPIFile, schemasBegin)
	}
	if *update {
		if err := os.WriteFile(openAPIFile, []byte(head+schemasBegin+b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(b.String(), have); diff != "" {
		t.Errorf("the schemas are not those of the types; write them with go test ./site -run OpenAPI -update\n%s", diff)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// markRequest notes what requests hold: none of its keys must be there.
func (s *schemas) markRequest(t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		s.markRequest(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() || s.requests[t] {
			return
		}
		s.requests[t] = true
		for i := range t.NumField() {
			s.markRequest(t.Field(i).Type)
		}
	}
}

// object writes the schema of a struct.
func (s *schemas) object(t *testing.T, typ reflect.Type) {
	name := typ.Name()
	if other, ok := s.done[name]; ok {
		if other != typ {
			t.Fatalf("%v and %v have one name", other, typ)
		}
		return
	}
	s.done[name] = typ
	var b, props strings.Builder
	var required []string
	fmt.Fprintf(&b, "    %s:\n      type: object\n", name)
	if d := s.docs[name]; d != "" {
		fmt.Fprintf(&b, "      description: %s\n", quote(d))
	}
	for _, f := range jsonFields(typ) {
		if !f.optional && !s.requests[typ] {
			required = append(required, f.name)
		}
		entry := s.schema(t, f.typ)
		if f.typ == reflect.TypeFor[opencmg.Environment]() && s.requests[typ] {
			entry = strings.Replace(entry, "enum: [", "enum: ['', ", 1) // empty: the default
		}
		if d := s.docs[f.owner+"."+f.goName]; d != "" {
			entry += ", description: " + quote(d)
			if strings.Contains(d, "read only") {
				entry += ", readOnly: true"
			}
		}
		fmt.Fprintf(&props, "        %s: {%s}\n", f.name, entry)
	}
	if len(required) > 0 {
		fmt.Fprintf(&b, "      required: [%s]\n", strings.Join(required, ", "))
	}
	fmt.Fprintf(&b, "      properties:\n%s", props.String())
	s.text[name] = b.String()
}

type jsonField struct {
	name, goName, owner string
	typ                 reflect.Type
	optional            bool
}

// jsonFields lists what encoding/json makes of a struct.
func jsonFields(t reflect.Type) []jsonField {
	var list []jsonField
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			list = append(list, jsonFields(f.Type)...)
			continue
		}
		if tag == "-" || !f.IsExported() {
			continue
		}
		list = append(list, jsonField{tag, f.Name, t.Name(), f.Type, strings.Contains(options, "omit")})
	}
	return list
}

// schema is the inside of a schema in flow style.
func (s *schemas) schema(t *testing.T, typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[time.Time]():
		return "type: string, format: date-time"
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[any]():
		return "type: [object, array, string, number, boolean, 'null']"
	case reflect.TypeFor[[]byte]():
		return "type: string, contentEncoding: base64"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return s.schema(t, typ.Elem())
	case reflect.Slice:
		return "type: array, items: {" + s.schema(t, typ.Elem()) + "}"
	case reflect.Map:
		return "type: object, additionalProperties: {" + s.schema(t, typ.Elem()) + "}"
	case reflect.Struct:
		s.object(t, typ)
		return "$ref: '#/components/schemas/" + typ.Name() + "'"
	case reflect.String:
		if list := enums[typ]; list != nil {
			return "type: string, enum: [" + strings.Join(list, ", ") + "]"
		}
		return "type: string"
	case reflect.Bool:
		return "type: boolean"
	case reflect.Float64:
		return "type: number"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "type: integer"
	}
	t.Fatalf("no schema for %v", typ)
	return ""
}

// quote writes a text so that it is the same in YAML and in JSON.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// docLink is [Name] or [*pkg.Name] in a comment.
var docLink = regexp.MustCompile(`\[\*?([A-Za-z.]+)\]`)

// goComments collects what the comments of both packages say about types and
// their fields.
func goComments(t *testing.T) map[string]string {
	docs := map[string]string{}
	for _, dir := range []string{"..", "../adminservice"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					continue
				}
				for _, spec := range g.Specs {
					ts := spec.(*ast.TypeSpec)
					st, ok := ts.Type.(*ast.StructType)
					if !ok {
						continue
					}
					docs[ts.Name.Name] = words(g.Doc)
					for _, field := range st.Fields.List {
						for _, id := range field.Names {
							docs[ts.Name.Name+"."+id.Name] = strings.TrimSpace(words(field.Doc) + " " + words(field.Comment))
						}
					}
				}
			}
		}
	}
	return docs
}

func words(c *ast.CommentGroup) string {
	return docLink.ReplaceAllString(strings.Join(strings.Fields(c.Text()), " "), "$1")
}

// description is openapi.yaml, decoded.
func description(t testing.TB) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal(adminservice.OpenAPI(), &doc); err != nil {
		t.Fatalf("%s: %s", openAPIFile, yaml.FormatError(err, false, true))
	}
	// Numbers and keys as in JSON.
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	doc = nil
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

// TestOpenAPIRoutes holds the description to the route table, both ways.
func TestOpenAPIRoutes(t *testing.T) {
	doc := description(t)
	described := map[string][]any{}
	ids := map[any]bool{}
	for path, v := range doc["paths"].(map[string]any) {
		item := v.(map[string]any)
		var params []string
		for _, p := range list(item["parameters"]) {
			params = append(params, lookUp(t, doc, p)["name"].(string))
		}
		var want []string
		for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
			want = append(want, m[1])
		}
		if diff := cmp.Diff(want, params); diff != "" {
			t.Errorf("%s: parameters\n%s", path, diff)
		}
		for method, o := range item {
			if method == "parameters" {
				continue
			}
			op := o.(map[string]any)
			key := strings.ToUpper(method) + " " + strings.TrimPrefix(path, "/")
			described[key] = list(op["x-roles"])
			if id := op["operationId"]; id == nil || ids[id] {
				t.Errorf("%s: operationId %v is missing or there twice", key, id)
			} else {
				ids[id] = true
			}
			if s, _ := op["summary"].(string); s == "" {
				t.Errorf("%s has no summary", key)
			}
			responses := op["responses"].(map[string]any)
			if responses["default"] == nil || len(responses) < 2 {
				t.Errorf("%s needs an answer and the problem document as default", key)
			}
		}
	}
	routes := map[string][]any{}
	for _, r := range site.RouteTable() {
		var roles []any
		for _, role := range r.Roles {
			roles = append(roles, string(role))
		}
		routes[r.Method+" "+r.Path] = roles
	}
	if diff := cmp.Diff(routes, described); diff != "" {
		t.Errorf("routes (-) and %s (+) differ; a missing route needs an entry under paths:\n%s", openAPIFile, diff)
	}
}

// TestOpenAPIReferences: every reference leads somewhere, and every component
// is used.
func TestOpenAPIReferences(t *testing.T) {
	doc := description(t)
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				target := lookUp(t, doc, v)
				if !used[ref] {
					used[ref] = true
					walk(target)
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(doc["paths"])
	for group, v := range doc["components"].(map[string]any) {
		if group == "securitySchemes" {
			continue
		}
		for name := range v.(map[string]any) {
			if !used["#/components/"+group+"/"+name] {
				t.Errorf("nothing uses %s/%s", group, name)
			}
		}
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// lookUp follows a reference, if it is one.
func lookUp(t testing.TB, doc map[string]any, v any) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%v is no object", v)
	}
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	at := any(doc)
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		o, _ := at.(map[string]any)
		if at, ok = o[part]; !ok {
			t.Fatalf("%s leads nowhere", ref)
		}
	}
	return at.(map[string]any)
}

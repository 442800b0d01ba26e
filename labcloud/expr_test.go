package labcloud_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
)

func TestExpressions(t *testing.T) {
	for in, want := range map[string]any{
		"plain":                                                        "plain",
		"[[literal]":                                                   "[literal]",
		"[parameters('p')]":                                            "value",
		"[ Variables( 'v' ) ]":                                         "value!",
		"[parameters('o').a[1]]":                                       "y",
		"[parameters('o')['a'][0]]":                                    "x",
		"[concat('it''s ', 1, -2)]":                                    "it's 1-2",
		"[resourceGroup().location]":                                   "westeurope",
		"[format('{1}{0}{{', 'a', 'b')]":                               "ba{",
		"[resourceId('Microsoft.A/b/c', 'x', 'y')]":                    "/subscriptions/x/resourceGroups/g/providers/Microsoft.A/b/x/c/y",
		"[resourceId('other', 'Microsoft.A/b', 'x')]":                  "/subscriptions/cccccccc-0000-0000-0000-000000000003/resourceGroups/other/providers/Microsoft.A/b/x",
		"[subscriptionResourceId('Microsoft.A/b', 'x')]":               "/subscriptions/cccccccc-0000-0000-0000-000000000003/providers/Microsoft.A/b/x",
		"[extensionResourceId('/scope', 'Microsoft.A/b', 'x')]":        "/scope/providers/Microsoft.A/b/x",
		"[reference('x').anything['y'][3]]":                            "00000000-0000-0000-0000-000000000000",
		"[toUpper(toLower('aB'))]":                                     "AB",
		"[subscription().subscriptionId]":                              "cccccccc-0000-0000-0000-000000000003",
		"[concat(parameters('p'), '-', guid('a'))]":                    "value-" + mustGUID(t),
		"[concat(resourceId('Microsoft.A/b', parameters('p')), '/c')]": "/subscriptions/x/resourceGroups/g/providers/Microsoft.A/b/value/c",
	} {
		got, err := labcloud.ResolveExpression(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	for _, in := range []string{"[]", "[x]", "[x()]", "[parameters()]", "[parameters('q')]", "[variables('loop')]", "[concat('a']", "[concat('a')x]", "['a]", "[concat('a' 'b')]", "[parameters('o').b]",
		"[parameters('o').a[2]]", "[parameters('p').x]", "[format('{2}', 1)]", "[format('{')]", "[format('}')]", "[resourceId('x')]", "[resourceId('Microsoft.A/b')]", "[parameters('o').]", "[parameters('o')[]", "[99999999999999999999]"} {
		if got, err := labcloud.ResolveExpression(in); err == nil {
			t.Errorf("%s: got %v, want an error", in, got)
		}
	}
	if n := labcloud.CheckPatterns(); n < 50 {
		t.Errorf("%d patterns, want more", n)
	}
}

func mustGUID(t *testing.T) string {
	t.Helper()
	v, err := labcloud.ResolveExpression("[guid('a')]")
	if err != nil {
		t.Fatal(err)
	}
	return v.(string)
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"[concat('a', parameters('p'))]", "[resourceId('Microsoft.A/b', 'x').y[0]]", "[format('{0}', -1)]", "[[x]", "[variables('loop')]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, errA := labcloud.ResolveExpression(s)
		b, errB := labcloud.ResolveExpression(s)
		if (errA == nil) != (errB == nil) || errA == nil && cmp.Diff(a, b) != "" {
			t.Errorf("%q: %v %v, then %v %v", s, a, errA, b, errB)
		}
	})
}

func FuzzShape(f *testing.F) {
	f.Add([]byte(`{"properties":{"mode":"Incremental","template":{"$schema":"x","contentVersion":"1.0.0.0","resources":[{"type":"A/b"}]}}}`))
	f.Add([]byte(`{"properties":[1,null,{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		labcloud.ShapeDeployment(b)
	})
}

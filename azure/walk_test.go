package azure_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

// walk calls act again and again on a fresh cloud. In the n-th walk the caller
// dies when the answer to its n-th request arrives: the cloud has done what
// was asked, and the caller does not know. Then act is called by a new client
// that knows nothing, and check looks at what there is in the end.
func walk(t *testing.T, fresh func() *cloud, act func(context.Context, *azure.Client) error, check func(step string)) {
	t.Helper()
	for n := 1; ; n++ {
		c := fresh()
		ctx, die := context.WithCancel(t.Context())
		cfg := c.config()
		requests, step := 0, ""
		cfg.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := c.http.Transport.RoundTrip(r)
			if "https://"+r.URL.Host+"/" == c.env.Authority {
				return resp, err
			}
			if requests++; requests == n {
				step = fmt.Sprintf("death at request %d, %s %s", n, r.Method, r.URL.Path)
				die()
				if err == nil {
					resp.Body.Close()
				}
				return nil, context.Canceled
			}
			return resp, err
		})}
		client, err := azure.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = act(ctx, client)
		die()
		if requests < n { // it got through
			if err != nil {
				t.Fatalf("alive: %v", err)
			}
			check("no death")
			if n < 5 {
				t.Errorf("only %d steps", n-1)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: err = %v", step, err)
		}
		if err := act(t.Context(), c.client()); err != nil {
			t.Fatalf("%s: again: %v", step, err)
		}
		check(step)
	}
}

func TestDeployWalk(t *testing.T) {
	var began, overlapped int
	walk(t, func() *cloud {
		c := newCloud(t, opencmg.AzureLab)
		began, overlapped = 0, 0
		looks, now, model := 0, "", ""
		deployable(c)
		c.on("PUT", c.env.ResourceManager+group(record), func(r request) reply {
			if now == "Running" {
				overlapped++
				return azError(409, "DeploymentActive", "it runs")
			}
			began++
			now, looks, model = "Running", 0, at(r.json(t), "properties", "parameters", "model", "value").(string)
			return c.lro(201, opPath, state("Accepted", nil))
		})
		look := func() {
			if looks++; looks >= 4 && now == "Running" {
				now = "Succeeded"
			}
		}
		c.on("GET", c.env.ResourceManager+group(record), func(request) reply {
			if now == "" {
				return notFound()
			}
			look()
			return ok(state(now, m{"parameters": m{"model": m{"value": model}}}))
		})
		c.on("GET", c.env.ResourceManager+opPath, func(request) reply {
			look()
			return ok(m{"status": now})
		})
		return c
	}, func(ctx context.Context, client *azure.Client) error {
		_, err := client.Deploy(ctx, deployment(), nil)
		return err
	}, func(step string) {
		// Two, if the first had ended before the second call: that only
		// confirms what is there.
		if began < 1 || began > 2 || overlapped > 0 {
			t.Errorf("%s: %d deployments began, %d while another ran", step, began, overlapped)
		}
	})
}

func TestDeleteWalk(t *testing.T) {
	var there map[string]bool
	var vault string
	walk(t, func() *cloud {
		c := newCloud(t, opencmg.AzureLab)
		deletable(c)
		there, vault = map[string]bool{"": true}, "active"
		for _, path := range owned {
			there[path] = true
		}
		for _, path := range append([]string{""}, owned...) {
			c.on("GET", c.env.ResourceManager+group(path), func(request) reply {
				if !there[path] {
					return notFound()
				}
				return ok(m{"id": group(path), "location": "westeurope", "tags": m{opencmg.GatewayTag: gatewayID}})
			})
			c.on("DELETE", c.env.ResourceManager+group(path), func(request) reply {
				delete(there, path)
				if strings.Contains(path, "vaults/") {
					vault = "deleted"
					return reply{status: 200}
				}
				return c.lro(202, opPath, nil)
			})
		}
		c.arm("GET", opPath, ok(m{"status": "Succeeded"}))
		c.on("GET", c.env.ResourceManager+sub(deletedVault), func(request) reply {
			if vault != "deleted" {
				return notFound()
			}
			return ok(m{"properties": m{"vaultId": group(owned[6]), "tags": m{opencmg.GatewayTag: gatewayID}}})
		})
		c.on("POST", c.env.ResourceManager+sub(deletedVault+"/purge"), func(request) reply {
			vault = "purged"
			return reply{status: 202, header: map[string]string{"Location": c.env.ResourceManager + sub("/purge/1") + "?api-version=2023-07-01"}}
		})
		return c
	}, func(ctx context.Context, client *azure.Client) error {
		return client.Delete(ctx, deployment(), true, nil)
	}, func(step string) {
		if len(there) > 0 || vault != "purged" {
			t.Errorf("%s: left are %v, the vault is %s", step, slices.Collect(maps.Keys(there)), vault)
		}
	})
}

func TestCreateServerAppWalk(t *testing.T) {
	type app struct {
		body    m
		secrets map[string]bool
	}
	var apps []*app
	var principals, consents int
	var got azure.ServerApp
	walk(t, func() *cloud {
		c := newCloud(t, opencmg.AzureLab)
		apps, principals, consents = nil, 0, 0
		graphable(c)
		c.on("GET", c.env.Graph+"/v1.0/applications", func(request) reply {
			var found []any
			for _, a := range apps {
				var keys []any
				for id := range a.secrets {
					keys = append(keys, m{"keyId": id})
				}
				a.body["passwordCredentials"] = keys
				found = append(found, a.body)
			}
			return list(found...)
		})
		c.on("POST", c.env.Graph+"/v1.0/applications", func(r request) reply {
			a := &app{body: r.json(t), secrets: map[string]bool{}}
			a.body["id"], a.body["appId"] = appObject, appID
			apps = append(apps, a)
			return reply{status: 201, body: a.body}
		})
		c.on("GET", c.env.Graph+"/v1.0/servicePrincipals", func(r request) reply {
			if strings.Contains(r.Query.Get("$filter"), graphApp) {
				return list(m{"id": graphSP, "appId": graphApp})
			}
			if principals == 0 {
				return list()
			}
			return list(m{"id": appSP, "appId": appID})
		})
		c.on("POST", c.env.Graph+"/v1.0/servicePrincipals", func(request) reply {
			principals++
			return reply{status: 201, body: m{"id": appSP, "appId": appID}}
		})
		n := 0
		c.on("POST", c.env.Graph+"/v1.0/applications/"+appObject+"/addPassword", func(request) reply {
			n++
			id := fmt.Sprintf("30000000-0000-4000-8000-%012d", n)
			apps[0].secrets[id] = true
			return ok(m{"keyId": id, "secretText": planted, "endDateTime": "2028-01-01T00:00:00Z"})
		})
		c.on("POST", c.env.Graph+"/v1.0/applications/"+appObject+"/removePassword", func(r request) reply {
			delete(apps[0].secrets, r.json(t)["keyId"].(string))
			return reply{status: 204}
		})
		c.on("GET", c.env.Graph+"/v1.0/servicePrincipals/"+appSP+"/appRoleAssignments", func(request) reply {
			if consents == 0 {
				return list()
			}
			return list(m{"principalId": appSP, "resourceId": graphSP, "appRoleId": "7ab1d382-f21e-4acd-a863-ba3e13f7da61"})
		})
		c.on("POST", c.env.Graph+"/v1.0/servicePrincipals/"+appSP+"/appRoleAssignments", func(request) reply {
			consents++
			return reply{status: 201, body: m{}}
		})
		return c
	}, func(ctx context.Context, client *azure.Client) (err error) {
		got, err = client.CreateServerApp(ctx, serverRequest(), nil)
		return err
	}, func(step string) {
		if len(apps) != 1 || principals != 1 || consents != 1 || len(apps[0].secrets) != 1 || !apps[0].secrets[got.Secret.KeyID] {
			t.Errorf("%s: %d apps, %d principals, %d consents, secrets %v, have %s", step, len(apps), principals, consents, apps[0].secrets, got.Secret.KeyID)
		}
	})
}

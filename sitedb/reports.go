package sitedb

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/opencmg/opencmg"
)

// What one client may store. More topics or messages push out the oldest.
const (
	maxStateTopics    = 5000
	maxStatusMessages = 500
	maxReport         = 64 << 20 // bytes of XML when read back
)

// A Report is an inventory or discovery report as the client sent it.
type Report struct {
	ClientID opencmg.ClientID
	Action   string // inventory action, e.g. ccm.ActionHardware
	Full     bool
	Written  time.Time // by the client's clock
	Received time.Time
	XML      string
}

// SaveInventory keeps the report as the latest of its client, action and kind
// (full or delta).
func (db *DB) SaveInventory(ctx context.Context, r Report) error {
	body := compress(r.XML)
	return db.transact(ctx, "save inventory", func(tx *Tx) error { return tx.saveReport(r, body) })
}

// SaveDDR keeps discovery data, and the names that it reports.
func (db *DB) SaveDDR(ctx context.Context, r Report, netBIOSName, agentVersion string) error {
	body := compress(r.XML)
	return db.transact(ctx, "save discovery data", func(tx *Tx) error {
		if err := tx.saveReport(r, body); err != nil {
			return err
		}
		var name, fqdn, version string
		if err := tx.row("SELECT netbios_name, fqdn, agent_version FROM clients WHERE id = ?", string(r.ClientID)).Scan(&name, &fqdn, &version); err != nil {
			return err
		}
		name, version = cmp.Or(netBIOSName, name), cmp.Or(agentVersion, version)
		return tx.exec("UPDATE clients SET netbios_name = ?, agent_version = ?, search_text = ? WHERE id = ?",
			name, version, searchText(name, fqdn, r.ClientID), string(r.ClientID))
	})
}

func (tx *Tx) saveReport(r Report, body []byte) error {
	if err := tx.seen(r.ClientID); err != nil {
		return err
	}
	if r.Full {
		// Deltas are relative to a full report that no longer counts.
		if err := tx.exec("DELETE FROM reports WHERE client_id = ? AND action = ?", string(r.ClientID), r.Action); err != nil {
			return err
		}
	}
	return tx.exec(`INSERT INTO reports (client_id, action, full_report, written, received, body) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (client_id, action, full_report) DO UPDATE SET written = excluded.written, received = excluded.received, body = excluded.body`,
		string(r.ClientID), r.Action, r.Full, micros(r.Written), micros(tx.now), body)
}

// seen notes that the client is alive; it must exist.
func (tx *Tx) seen(id opencmg.ClientID) error {
	return tx.must(opencmg.Errorf(opencmg.NotFound, "there is no client %s", id), "UPDATE clients SET last_seen = ? WHERE id = ?", micros(tx.now), string(id))
}

// Reports returns the kept reports of a client.
func (db *DB) Reports(ctx context.Context, id opencmg.ClientID) ([]Report, error) {
	rows, err := db.query(ctx, "SELECT action, full_report, written, received, body FROM reports WHERE client_id = ? ORDER BY action, full_report DESC", string(id))
	if err != nil {
		return nil, wrap(err, "reports")
	}
	defer rows.Close()
	var found []Report
	for rows.Next() {
		r := Report{ClientID: id}
		var written, received int64
		var body []byte
		if err := rows.Scan(&r.Action, &r.Full, &written, &received, &body); err != nil {
			return nil, wrap(err, "reports")
		}
		if r.XML, err = decompress(body); err != nil {
			return nil, wrap(err, "reports")
		}
		r.Written, r.Received = fromMicros(written), fromMicros(received)
		found = append(found, r)
	}
	return found, wrap(rows.Err(), "reports")
}

// ReportHeads returns the kept reports of a client without their texts, the
// latest first.
func (db *DB) ReportHeads(ctx context.Context, id opencmg.ClientID) ([]Report, error) {
	rows, err := db.query(ctx, "SELECT action, full_report, written, received FROM reports WHERE client_id = ? ORDER BY received DESC, action, full_report DESC", string(id))
	list, err := collect(rows, err, func(row scanner) (Report, error) {
		r := Report{ClientID: id}
		var written, received int64
		err := row.Scan(&r.Action, &r.Full, &written, &received)
		r.Written, r.Received = fromMicros(written), fromMicros(received)
		return r, err
	})
	return list, wrap(err, "reports")
}

// Report returns the kept report of a client for an inventory action, full or
// the changes since.
func (db *DB) Report(ctx context.Context, id opencmg.ClientID, action string, full bool) (Report, error) {
	r := Report{ClientID: id, Action: action, Full: full}
	var written, received int64
	var body []byte
	err := db.row(ctx, "SELECT written, received, body FROM reports WHERE client_id = ? AND action = ? AND full_report = ?", string(id), action, full).Scan(&written, &received, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return r, opencmg.Errorf(opencmg.NotFound, "client %s sent no such report", id)
	}
	if err != nil {
		return r, wrap(err, "report")
	}
	r.Written, r.Received = fromMicros(written), fromMicros(received)
	r.XML, err = decompress(body)
	return r, wrap(err, "report")
}

// A StateMessage is the latest state of one topic of a client.
type StateMessage struct {
	TopicType   int
	TopicID     string
	StateID     int
	Criticality int
	Serial      int
	Parameters  []string
	Written     time.Time
	Received    time.Time
}

// SaveStateMessages keeps the latest message per topic. Messages that come
// late, with a smaller serial number than the kept one, are dropped.
func (db *DB) SaveStateMessages(ctx context.Context, id opencmg.ClientID, messages []StateMessage) error {
	return db.transact(ctx, "save state messages", func(tx *Tx) error {
		if err := tx.seen(id); err != nil {
			return err
		}
		for _, m := range messages {
			parameters, err := json.Marshal(m.Parameters)
			if err != nil {
				return err
			}
			if err := tx.exec(`INSERT INTO state_messages (client_id, topic_type, topic_id, state_id, criticality, serial, parameters, written, received) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (client_id, topic_type, topic_id) DO UPDATE SET state_id = excluded.state_id, criticality = excluded.criticality, serial = excluded.serial, parameters = excluded.parameters, written = excluded.written, received = excluded.received
				WHERE excluded.serial >= state_messages.serial OR excluded.written > state_messages.written`,
				string(id), m.TopicType, m.TopicID, m.StateID, m.Criticality, m.Serial, string(parameters), micros(m.Written), micros(tx.now)); err != nil {
				return err
			}
		}
		return tx.exec(`DELETE FROM state_messages WHERE client_id = ? AND received < (SELECT received FROM state_messages WHERE client_id = ? ORDER BY received DESC LIMIT 1 OFFSET ?)`,
			string(id), string(id), maxStateTopics)
	})
}

// StateMessages returns the kept state messages of a client.
func (db *DB) StateMessages(ctx context.Context, id opencmg.ClientID) ([]StateMessage, error) {
	rows, err := db.query(ctx, "SELECT topic_type, topic_id, state_id, criticality, serial, parameters, written, received FROM state_messages WHERE client_id = ? ORDER BY topic_type, topic_id", string(id))
	if err != nil {
		return nil, wrap(err, "state messages")
	}
	defer rows.Close()
	var found []StateMessage
	for rows.Next() {
		var m StateMessage
		var parameters string
		var written, received int64
		if err := rows.Scan(&m.TopicType, &m.TopicID, &m.StateID, &m.Criticality, &m.Serial, &parameters, &written, &received); err != nil {
			return nil, wrap(err, "state messages")
		}
		if err := json.Unmarshal([]byte(parameters), &m.Parameters); err != nil {
			return nil, wrap(err, "state messages")
		}
		m.Written, m.Received = fromMicros(written), fromMicros(received)
		found = append(found, m)
	}
	return found, wrap(rows.Err(), "state messages")
}

// SaveStatusMessage keeps a status message of a client.
func (db *DB) SaveStatusMessage(ctx context.Context, id opencmg.ClientID, kind string, properties map[string]string) error {
	text, err := json.Marshal(properties)
	if err != nil {
		return wrap(err, "save status message")
	}
	return db.transact(ctx, "save status message", func(tx *Tx) error {
		if err := tx.seen(id); err != nil {
			return err
		}
		if err := tx.exec("INSERT INTO status_messages (client_id, type, properties, received) VALUES (?, ?, ?, ?)", string(id), kind, string(text), micros(tx.now)); err != nil {
			return err
		}
		return tx.exec(`DELETE FROM status_messages WHERE client_id = ? AND id <= (SELECT id FROM status_messages WHERE client_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`,
			string(id), string(id), maxStatusMessages)
	})
}

// StatusMessages returns how many status messages of a client are kept.
func (db *DB) StatusMessages(ctx context.Context, id opencmg.ClientID) (n int, err error) {
	err = db.row(ctx, "SELECT COUNT(*) FROM status_messages WHERE client_id = ?", string(id)).Scan(&n)
	return n, wrap(err, "status messages")
}

func compress(text string) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write([]byte(text)) // a bytes.Buffer takes everything
	w.Close()
	return b.Bytes()
}

func decompress(b []byte) (string, error) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxReport))
	return string(text), err
}

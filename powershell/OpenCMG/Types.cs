// What the module needs in C#: OpenCMG.psm1 compiles it on import. C# 5 only,
// since that is what Windows PowerShell 5.1 has.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Management.Automation;
using System.Net.Security;
using System.Runtime.InteropServices;
using System.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.RegularExpressions;

namespace OpenCMG
{
    /// <summary>Takes a plain text where a SecureString is wanted, since a documented
    /// example passes one. PowerShell itself would not convert it.</summary>
    [AttributeUsage(AttributeTargets.Property | AttributeTargets.Field, AllowMultiple = true)]
    public sealed class SecretAttribute : ArgumentTransformationAttribute
    {
        public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
        {
            PSObject wrapped = inputData as PSObject;
            string text = (wrapped == null ? inputData : wrapped.BaseObject) as string;
            if (text == null)
            {
                return inputData;
            }
            SecureString secret = new SecureString();
            foreach (char c in text)
            {
                secret.AppendChar(c);
            }
            secret.MakeReadOnly();
            return secret;
        }
    }

    /// <summary>What the site answered instead of doing what it was asked.</summary>
    public sealed class ProblemException : Exception
    {
        public ProblemException(string message, int status, string correlationId, string nextStep, object problem)
            : base(message)
        {
            Status = status;
            CorrelationId = correlationId;
            NextStep = nextStep;
            Problem = problem;
        }

        /// <summary>The HTTP status; 0 when no answer came.</summary>
        public int Status { get; private set; }

        /// <summary>Under which the site's log has it.</summary>
        public string CorrelationId { get; private set; }

        /// <summary>What to do next; empty when the message says it.</summary>
        public string NextStep { get; private set; }

        /// <summary>The problem document (RFC 9457).</summary>
        public object Problem { get; private set; }
    }

    /// <summary>Trusts servers whose certificate comes from the given authorities, and no
    /// others. It is compiled, since a script block can not be called from the thread
    /// that shakes hands.</summary>
    public sealed class Pin
    {
        const string ServerAuthentication = "1.3.6.1.5.5.7.3.1";

        readonly X509Certificate2Collection authorities = new X509Certificate2Collection();

        /// <summary>Reads authorities from a file, PEM or DER.</summary>
        public Pin(string path)
        {
            byte[] content = File.ReadAllBytes(path);
            string text = Encoding.ASCII.GetString(content);
            foreach (Match m in Regex.Matches(text, "-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\\s]+)-----END CERTIFICATE-----"))
            {
                authorities.Add(new X509Certificate2(Convert.FromBase64String(Regex.Replace(m.Groups[1].Value, "\\s", ""))));
            }
            if (authorities.Count == 0 && content.Length > 0 && content[0] == 0x30)
            {
                authorities.Add(new X509Certificate2(content));
            }
            if (authorities.Count == 0)
            {
                throw new InvalidDataException(path + " holds no certificate. Take the file site-ca.pem of the site server.");
            }
        }

        /// <summary>Why the last server was refused; empty when it was not.</summary>
        public string Refusal { get; private set; }

        /// <summary>The callback as HttpClientHandler wants it: an object is as good as
        /// the message.</summary>
        public Func<object, X509Certificate2, X509Chain, SslPolicyErrors, bool> Callback
        {
            get { return Check; }
        }

        bool Check(object message, X509Certificate2 certificate, X509Chain presented, SslPolicyErrors errors)
        {
            Refusal = Judge(certificate, presented, errors);
            return Refusal == "";
        }

        string Judge(X509Certificate2 certificate, X509Chain presented, SslPolicyErrors errors)
        {
            if (certificate == null || (errors & SslPolicyErrors.RemoteCertificateNotAvailable) != 0)
            {
                return "the server has no certificate";
            }
            if ((errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0)
            {
                return "the server's certificate is for another name (" + certificate.Subject + ")";
            }
            foreach (X509Extension extension in certificate.Extensions)
            {
                X509EnhancedKeyUsageExtension usages = extension as X509EnhancedKeyUsageExtension;
                if (usages != null && usages.EnhancedKeyUsages[ServerAuthentication] == null)
                {
                    return "the server's certificate is not for servers (" + certificate.Subject + ")";
                }
            }
            X509Chain chain = new X509Chain();
            // No list is asked for: the site CA has none for its servers.
            chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
            // The authority need not be known to the system: it is compared below.
            chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
            chain.ChainPolicy.ApplicationPolicy.Add(new System.Security.Cryptography.Oid(ServerAuthentication));
            chain.ChainPolicy.ExtraStore.AddRange(authorities);
            if (presented != null)
            {
                foreach (X509ChainElement element in presented.ChainElements)
                {
                    chain.ChainPolicy.ExtraStore.Add(element.Certificate);
                }
            }
            if (!chain.Build(certificate))
            {
                List<string> reasons = new List<string>();
                foreach (X509ChainStatus status in chain.ChainStatus)
                {
                    reasons.Add(status.Status.ToString());
                }
                return "the server's certificate is not valid (" + string.Join(", ", reasons.ToArray()) + ")";
            }
            foreach (X509ChainElement element in chain.ChainElements)
            {
                foreach (X509Certificate2 authority in authorities)
                {
                    if (Same(element.Certificate.RawData, authority.RawData))
                    {
                        return "";
                    }
                }
            }
            return "the server's certificate is not from the site CA (" + certificate.Issuer + ")";
        }

        static bool Same(byte[] a, byte[] b)
        {
            if (a.Length != b.Length)
            {
                return false;
            }
            for (int i = 0; i < a.Length; i++)
            {
                if (a[i] != b[i])
                {
                    return false;
                }
            }
            return true;
        }
    }

    /// <summary>The body of a request: JSON in memory that is cleared afterwards, since it
    /// may hold secrets. ConvertTo-Json will not do: it writes dates differently in
    /// Windows PowerShell and PowerShell 7, and SecureStrings as their length.</summary>
    public sealed class Body : IDisposable
    {
        const int MaxDepth = 32;

        byte[] buffer = new byte[4096];

        /// <summary>The first Length bytes are the body.</summary>
        public byte[] Buffer
        {
            get { return buffer; }
        }

        public int Length { get; private set; }

        public void Dispose()
        {
            Array.Clear(buffer, 0, buffer.Length);
            Length = 0;
        }

        /// <summary>Writes a value: texts, numbers, Booleans, dates (ISO 8601), secrets,
        /// bytes (base64), dictionaries, objects and lists of them.</summary>
        public void Write(object value)
        {
            Write(value, 0);
        }

        void Write(object value, int depth)
        {
            if (depth > MaxDepth)
            {
                throw new InvalidOperationException("An object is nested more than " + MaxDepth + " times: it may contain itself.");
            }
            PSObject wrapped = value as PSObject;
            if (wrapped != null)
            {
                if (wrapped.BaseObject is PSCustomObject)
                {
                    WriteObject(wrapped, depth);
                    return;
                }
                value = wrapped.BaseObject;
            }
            if (value == null || value is DBNull)
            {
                Ascii("null");
            }
            else if (value is bool)
            {
                Ascii((bool)value ? "true" : "false");
            }
            else if (value is SwitchParameter)
            {
                Ascii(((SwitchParameter)value).IsPresent ? "true" : "false");
            }
            else if (value is string)
            {
                Text(((string)value).ToCharArray());
            }
            else if (value is SecureString)
            {
                Secret((SecureString)value);
            }
            else if (value is DateTime)
            {
                Text(((DateTime)value).ToString("yyyy-MM-dd'T'HH:mm:ss.FFFFFFFK", CultureInfo.InvariantCulture).ToCharArray());
            }
            else if (value is DateTimeOffset)
            {
                Text(((DateTimeOffset)value).ToString("yyyy-MM-dd'T'HH:mm:ss.FFFFFFFzzz", CultureInfo.InvariantCulture).ToCharArray());
            }
            else if (value is Uri)
            {
                Text(((Uri)value).OriginalString.ToCharArray());
            }
            else if (value is byte[])
            {
                char[] base64 = new char[((byte[])value).Length * 4 / 3 + 4];
                int n = Convert.ToBase64CharArray((byte[])value, 0, ((byte[])value).Length, base64, 0);
                Text(base64, n);
                Array.Clear(base64, 0, base64.Length);
            }
            else if (value is double || value is float)
            {
                Ascii(((IFormattable)value).ToString("R", CultureInfo.InvariantCulture));
            }
            else if (value is decimal || value is sbyte || value is byte || value is short || value is ushort
                || value is int || value is uint || value is long || value is ulong)
            {
                // An enumeration is none of these, and becomes its name below.
                Ascii(((IFormattable)value).ToString(null, CultureInfo.InvariantCulture));
            }
            else if (value is IDictionary)
            {
                WriteDictionary((IDictionary)value, depth);
            }
            else if (value is IEnumerable)
            {
                Ascii("[");
                bool first = true;
                foreach (object item in (IEnumerable)value)
                {
                    if (!first)
                    {
                        Ascii(",");
                    }
                    first = false;
                    Write(item, depth + 1);
                }
                Ascii("]");
            }
            else
            {
                Text(value.ToString().ToCharArray());
            }
        }

        void WriteObject(PSObject value, int depth)
        {
            Ascii("{");
            bool first = true;
            foreach (PSPropertyInfo property in value.Properties)
            {
                if (!first)
                {
                    Ascii(",");
                }
                first = false;
                Text(property.Name.ToCharArray());
                Ascii(":");
                Write(property.Value, depth + 1);
            }
            Ascii("}");
        }

        void WriteDictionary(IDictionary value, int depth)
        {
            Ascii("{");
            bool first = true;
            foreach (DictionaryEntry entry in value)
            {
                if (!first)
                {
                    Ascii(",");
                }
                first = false;
                Text(entry.Key.ToString().ToCharArray());
                Ascii(":");
                Write(entry.Value, depth + 1);
            }
            Ascii("}");
        }

        void Secret(SecureString secret)
        {
            IntPtr plain = Marshal.SecureStringToGlobalAllocUnicode(secret);
            char[] text = new char[secret.Length];
            try
            {
                Marshal.Copy(plain, text, 0, text.Length);
                Text(text);
            }
            finally
            {
                Array.Clear(text, 0, text.Length);
                Marshal.ZeroFreeGlobalAllocUnicode(plain);
            }
        }

        void Text(char[] text)
        {
            Text(text, text.Length);
        }

        // Everything but printable ASCII is escaped, so that no encoding matters.
        void Text(char[] text, int length)
        {
            Byte((byte)'"');
            for (int i = 0; i < length; i++)
            {
                char c = text[i];
                if (c < ' ' || c > '~' || c == '"' || c == '\\')
                {
                    Ascii("\\u" + ((int)c).ToString("x4", CultureInfo.InvariantCulture));
                }
                else
                {
                    Byte((byte)c);
                }
            }
            Byte((byte)'"');
        }

        void Ascii(string s)
        {
            foreach (char c in s)
            {
                Byte((byte)c);
            }
        }

        void Byte(byte b)
        {
            if (Length == buffer.Length)
            {
                byte[] larger = new byte[2 * buffer.Length];
                Array.Copy(buffer, larger, Length);
                Array.Clear(buffer, 0, buffer.Length);
                buffer = larger;
            }
            buffer[Length] = b;
            Length++;
        }
    }
}

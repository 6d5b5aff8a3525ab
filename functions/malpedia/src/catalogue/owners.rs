//! Who writes which fields of families and actors: files, the API, the text that an enrichment added, and the links between both.

use stores::documents::Owner;

/// What a record says, whether a file or the API gives it.
pub(super) const FAMILIES: Owner = Owner {
    fields: &[
        "source_family",
        "source_type",
        "source_name",
        "family_id",
        "name",
        "common_name",
        "names",
        "url",
        "os",
        "aka",
        "description",
        "referencias",
        "library_entries",
        "uuid",
        "notes",
        "status",
        "update",
        "yara_names",
        "yara_rules",
        "extra",
        "tlp",
        "active",
        "content_hash",
    ],
    unhashed: &["content_hash"],
    optional: &["extra"],
    alternatives: &["malpedia_family_api"],
    insert_only: &["collected_at", "first_seen"],
    fallback: &[("descricao", "description")],
    shared: &["actors"],
    ..Owner::named("malpedia_family")
};

/// The API knows neither rules nor the state of samples: what files gave of them stays. It gives no address either: the page of
/// the family stands in for one that nobody gave.
pub(super) const FAMILIES_API: Owner = Owner {
    name: "malpedia_family_api",
    fields: &[
        "source_family",
        "source_type",
        "source_name",
        "source_url",
        "family_id",
        "name",
        "common_name",
        "names",
        "url",
        "os",
        "aka",
        "description",
        "referencias",
        "library_entries",
        "uuid",
        "notes",
        "update",
        "extra",
        "tlp",
        "active",
        "content_hash",
    ],
    alternatives: &["malpedia_family"],
    fallback: &[("descricao", "description"), ("url", "source_url")],
    ..FAMILIES
};

pub(super) const ACTORS: Owner = Owner {
    fields: &[
        "source_family",
        "source_type",
        "source_name",
        "actor_id",
        "name",
        "names",
        "url",
        "urls",
        "source_url",
        "country",
        "country_name",
        "aka",
        "description",
        "referencias",
        "uuid",
        "state_sponsor",
        "victims",
        "target_category",
        "incident_type",
        "attribution_confidence",
        "erro",
        "mitre_ids",
        "mitre_aliases",
        "familias_nomes",
        "last_activity",
        "atribuicao_pais",
        "atribuicao_organizacao",
        "extra",
        "tlp",
        "active",
        "content_hash",
    ],
    unhashed: &["content_hash"],
    optional: &[
        "source_url",
        "country_name",
        "mitre_ids",
        "mitre_aliases",
        "familias_nomes",
        "last_activity",
        "atribuicao_pais",
        "atribuicao_organizacao",
        "extra",
    ],
    alternatives: &["malpedia_actor_api"],
    insert_only: &["collected_at", "first_seen"],
    fallback: &[("explicacao", "description"), ("url", "source_url")],
    shared: &["families", "familias_relacionadas"],
    ..Owner::named("malpedia_actor")
};

pub(super) const ACTORS_API: Owner =
    Owner { name: "malpedia_actor_api", alternatives: &["malpedia_actor"], ..ACTORS };

/// The text that an enrichment added; written only where there is one, so that nothing blanks it.
pub(super) const TEXT_OF_FAMILY: Owner =
    Owner { fields: &["descricao"], ..Owner::named("descricao") };
pub(super) const TEXT_OF_ACTOR: Owner =
    Owner { fields: &["explicacao"], ..Owner::named("explicacao") };

/// What the other side says: actors of a family, families of an actor by id and name.
pub(super) const LINKS_OF_FAMILY: Owner =
    Owner { fields: &["actor_ids"], shared: &["actors"], ..Owner::named("malpedia_links") };
pub(super) const LINKS_OF_ACTOR: Owner = Owner {
    fields: &["family_names"],
    shared: &["families", "familias_relacionadas"],
    ..Owner::named("malpedia_links")
};

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0002_fleet_as_it_stands'),
    ]

    operations = [
        migrations.AddField(
            model_name='change',
            name='region_pk',
            field=models.PositiveBigIntegerField(help_text='Region in which the row lay; empty: everywhere. A plain number: it outlives the region.', null=True),
        ),
    ]
